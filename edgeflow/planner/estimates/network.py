"""Seconds and joules of the transfers between two layouts of a stretch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from edgeflow.cost.model import CostModel
from edgeflow.plan.program import CLIENT
from edgeflow.plan.stage import Piece
from edgeflow.sharding.region import Region

#: A large frame, used to derive the processor cost of a byte.
_MANY_BYTES: Final = 1 << 20

#: Tensor -> rank -> the piece that it owns.
Ownership = Mapping[str, Mapping[int, Piece]]
#: Tensor -> rank -> the region that it reads.
Needs = Mapping[str, Mapping[int, Region]]


class _Route(NamedTuple):
    """What a frame between two ranks occupies: processors and resources, per frame and per byte.

    Attributes:
        occupied_s: Number of each processor or resource, seconds per frame, seconds per byte.
    """

    latency_s: float
    occupied_s: tuple[tuple[int, float, float], ...]
    fixed_j: float
    per_byte_j: float


class Network:
    """Estimates of transfers on one cluster."""

    def __init__(self, cost: CostModel, itemsizes: Mapping[str, int]) -> None:
        self._cost = cost
        self.itemsizes = itemsizes
        self._routes: dict[tuple[int, int], _Route] = {}
        #: Processors, by rank, and network resources, numbered.
        self._places: dict[str | int, int] = {}

    def moved(self, needs: Needs, owned: Ownership) -> tuple[float, float]:
        """Return the cost of moving tensors until every rank has what it needs.

        All transfers start at once; it ends when the busiest processor or network resource is done and the
        last byte is there. A tensor that ``owned`` does not name is where the client is.

        Returns:
            Seconds, and joules beyond what devices spend at rest.
        """
        busy_s = [0.0] * len(self._places)
        latency_s = energy_j = 0.0
        for source, target, num_bytes in self._frames(needs, owned):
            route = self._routes.get((source, target))
            if route is None:
                route = self._route(source, target)
                busy_s += [0.0] * (len(self._places) - len(busy_s))
            if route.latency_s > latency_s:
                latency_s = route.latency_s
            energy_j += route.fixed_j + route.per_byte_j * num_bytes
            for place, fixed_s, per_byte_s in route.occupied_s:
                busy_s[place] += fixed_s + per_byte_s * num_bytes
        return latency_s + max(busy_s, default=0.0), energy_j

    def _frames(self, needs: Needs, owned: Ownership) -> Iterator[tuple[int, int, int]]:
        """Yield sender, receiver and bytes of every frame."""
        for tensor, readers in needs.items():
            owners = owned.get(tensor)
            itemsize = self.itemsizes[tensor]
            for rank, need in readers.items():
                missing = need.num_elements
                if owners is None:
                    yield CLIENT, rank, missing * itemsize
                    continue
                mine = owners.get(rank)
                if mine is not None and mine.contraction is None:
                    missing -= mine.region.overlap(need)
                for owner, piece in owners.items():
                    if missing <= 0:
                        break
                    overlap = 0 if owner == rank else piece.region.overlap(need)
                    if piece.contraction is None:
                        overlap = min(overlap, missing)
                        missing -= overlap
                    if overlap:
                        yield owner, rank, overlap * itemsize

    def _route(self, source: int, target: int) -> _Route:
        route = self._routes[source, target] = self._find(source, target)
        return route

    def _find(self, source: int, target: int) -> _Route:
        cluster, cost = self._cost.cluster, self._cost
        if not cluster.is_connected(source, target):
            return _Route(float("inf"), (), 0.0, 0.0)
        path = cluster.path(source, target)
        occupied_s: list[tuple[str | int, float, float]] = [
            (hop.resource, 0.0, hop.occupied_s(1)) for hop in path.hops
        ]
        fixed_j = per_byte_j = 0.0
        for rank in (source, target):
            first = cost.message_s(rank)
            more = (cost.message_s(rank, _MANY_BYTES) - first) / _MANY_BYTES
            occupied_s.append((rank, first, more))
            if rank >= 0:
                fixed_j += first * cluster.devices[rank].power_compute_w
                per_byte_j += more * cluster.devices[rank].power_compute_w
        if not path.hops:  # on one host, where copies do not wait for each other
            occupied_s.append((f"host:{source}:{target}", 0.0, 1 / path.link.bandwidth_bytes_per_s))
        else:
            sender, receiver = (
                cluster.devices[rank if rank >= 0 else cluster.source_rank] for rank in (source, target)
            )
            per_byte_j += sender.joules_per_byte_sent + receiver.joules_per_byte_received
        numbered = tuple(
            (self._places.setdefault(name, len(self._places)), fixed_s, per_byte_s)
            for name, fixed_s, per_byte_s in occupied_s
        )
        return _Route(path.link.latency_s, numbered, fixed_j, per_byte_j)
