"""WHERE a model runs: devices, the network between them, and where requests come from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import msgspec

from edgeflow.cluster.check import check_parts
from edgeflow.cluster.device import REFERENCE_FLOPS_PER_SECOND, REFERENCE_MEMORY_BANDWIDTH, Device
from edgeflow.cluster.file import read_fields
from edgeflow.cluster.network import HOST_LINK, HOST_PATH, Hop, Link, Segment
from edgeflow.cluster.network import Path as NetworkPath
from edgeflow.errors import ConfigError, InfeasiblePlanError
from edgeflow.units import parse_bandwidth, parse_bytes, parse_seconds

__all__ = [
    "HOST_LINK",
    "REFERENCE_FLOPS_PER_SECOND",
    "REFERENCE_MEMORY_BANDWIDTH",
    "Cluster",
    "Device",
    "Link",
]


class Cluster(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """Devices and the network between them.

    Attributes:
        devices: In rank order.
        network: The link between any two devices that `links` does not name; None: they have none.
        links: ``(from, to)`` names -> link, for pairs that differ; each direction on its own. None: that
            pair has no link, and a plan that needs one is infeasible.
        segments: Parts of the network that devices share: media and uplinks; a device is in at most one of
            each.
        source: Name of the device on whose host requests arrive and answers are wanted.
    """

    name: str = "cluster"
    devices: tuple[Device, ...]
    network: Link | None
    links: tuple[tuple[str, str, Link | None], ...] = ()
    segments: tuple[Segment, ...] = ()
    source: str = ""

    def __post_init__(self) -> None:
        check_parts(self.name, self.devices, self.network, self.links, self.segments)
        if self.source:
            self.rank_of(self.source)
        _check_reach(self)

    @property
    def ranks(self) -> range:
        return range(len(self.devices))

    @property
    def source_rank(self) -> int:
        return self.rank_of(self.source) if self.source else 0

    def rank_of(self, name: str) -> int:
        """Return the rank of the device called ``name``; raise `ConfigError` if there is none."""
        for rank, device in enumerate(self.devices):
            if device.name == name:
                return rank
        raise ConfigError(f"no device {name!r}; devices: {', '.join(d.name for d in self.devices)}")

    def is_connected(self, source: int, destination: int) -> bool:
        """Whether a transfer can go from one rank to another."""
        a, b = self._host(source), self._host(destination)
        return a == b or self._declared(a, b) is not None

    def path(self, source: int, destination: int) -> NetworkPath:
        """Return the way between two ranks; rank -1 is the client, on the source device's host.

        Raises:
            InfeasiblePlanError: If the pair has no link.
        """
        pair = self._host(source), self._host(destination)
        known = self._paths.get(pair)
        if known is None:
            known = self._paths[pair] = self._find(*pair)
        return known

    def link(self, source: int, destination: int) -> Link:
        """Return the rate and latency between two ranks on an idle network; see `path`."""
        return self.path(source, destination).link

    def distance_s(self, source: int, destination: int, num_bytes: int) -> float:
        """Seconds of a transfer on an idle network; infinite where there is no link."""
        if not self.is_connected(source, destination):
            return float("inf")
        return self.path(source, destination).seconds(num_bytes)

    @property
    def relative_speeds(self) -> tuple[float, ...]:
        """Each device's FLOP/s as a share of the fastest one's."""
        fastest = max(device.flops_per_second for device in self.devices)
        return tuple(device.flops_per_second / fastest for device in self.devices)

    @cached_property
    def _paths(self) -> dict[tuple[int, int], NetworkPath]:
        return {}

    @cached_property
    def _pairs(self) -> Mapping[tuple[str, str], Link | None]:
        return {(a, b): link for a, b, link in self.links}

    @cached_property
    def _segment_of(self) -> Mapping[tuple[str, str], Segment]:
        """(kind, device) -> segment."""
        return {(item.kind, name): item for item in self.segments for name in item.members}

    def _host(self, rank: int) -> int:
        return self.source_rank if rank < 0 else rank

    def _declared(self, a: int, b: int) -> Link | None:
        return self._pairs.get((self.devices[a].name, self.devices[b].name), self.network)

    def _find(self, a: int, b: int) -> NetworkPath:
        if a == b:
            return HOST_PATH
        link = self._declared(a, b)
        if link is None:
            raise InfeasiblePlanError(
                f"there is no link from device {self.devices[a].name!r} to {self.devices[b].name!r}, "
                "and the plan sends something there",
                constraint="link",
            )
        hops = list(self._hops(self.devices[a], self.devices[b], link))
        latency_s = link.latency_s + sum(hop.delay_s for hop in hops)
        slowest = min(hop.bytes_per_s for hop in hops)
        # What is sent crosses the link's own latency behind the first resource.
        hops[0] = msgspec.structs.replace(hops[0], delay_s=hops[0].delay_s + link.latency_s)
        return NetworkPath(link=Link(bandwidth_bytes_per_s=slowest, latency_s=latency_s), hops=tuple(hops))

    def _hops(self, a: Device, b: Device, link: Link) -> Iterator[Hop]:
        """Resources from ``a`` to ``b``, in order."""
        leaving, entering = (self._segment_of.get(("medium", device.name)) for device in (a, b))
        uplink, downlink = (self._segment_of.get(("uplink", device.name)) for device in (a, b))
        hops: list[Hop] = []
        # The radio is the interface of a medium's member, unless a rate of its own is given.
        if leaving is None or a.upload_bytes_per_s is not None:
            hops.append(Hop(f"egress:{a.name}", a.upload_bytes_per_s or link.bandwidth_bytes_per_s))
        if uplink is not None and uplink != downlink:
            hops.append(_of_segment(uplink, ":out"))
        if leaving is not None:
            hops.append(_of_segment(leaving, times=2 if leaving == entering and leaving.is_relayed else 1))
        if entering is not None and entering != leaving:
            hops.append(_of_segment(entering))
        if downlink is not None and downlink != uplink:
            hops.append(_of_segment(downlink, ":in"))
        if entering is None or b.download_bytes_per_s is not None:
            hops.append(Hop(f"ingress:{b.name}", b.download_bytes_per_s or link.bandwidth_bytes_per_s))
        # A link that is slower than all of these is what transfers of its pair alone take turns at.
        if link.bandwidth_bytes_per_s < min(hop.bytes_per_s for hop in hops):
            hops.insert(1, Hop(f"link:{a.name}->{b.name}", link.bandwidth_bytes_per_s))
        yield from hops

    @staticmethod
    def local(
        speeds: Sequence[float] = (1.0,),
        *,
        bandwidth: str | float = "1 Gbit/s",
        latency: str | float = "0.2 ms",
        memory: str | int = "4 GiB",
        name: str = "local",
    ) -> Cluster:
        """Return a cluster of devices on one switch, named ``device0`` ....

        Args:
            speeds: Relative to one desktop core: 1.0 is `REFERENCE_FLOPS_PER_SECOND`.
            bandwidth: Of every link, each direction: text with a unit, or bytes per second.
            latency: Of every link: text with a unit, or seconds.
            memory: Of every device: text with a unit, or bytes.

        Raises:
            ConfigError: If a quantity cannot be read, or is not positive.

        Examples:
            >>> [d.name for d in Cluster.local([1.0, 0.5]).devices]
            ['device0', 'device1']
        """
        memory_bytes = parse_bytes(memory, what="memory")
        network = Link(
            bandwidth_bytes_per_s=parse_bandwidth(bandwidth), latency_s=parse_seconds(latency, what="latency")
        )
        devices = tuple(
            Device(
                name=f"device{rank}",
                flops_per_second=speed * REFERENCE_FLOPS_PER_SECOND,
                memory_bandwidth_bytes_per_s=speed * REFERENCE_MEMORY_BANDWIDTH,
                overhead_s=10e-6 / speed if speed > 0 else 0.0,
                memory_bytes=memory_bytes,
            )
            for rank, speed in enumerate(speeds)
        )
        return Cluster(name=name, devices=devices, network=network)

    @staticmethod
    def load(path: str | Path) -> Cluster:
        """Read a cluster file (YAML); see `edgeflow.cluster.file`.

        Raises:
            ConfigError: If the file, or a profile that it names, is missing, is not YAML (JSON), has an
                unknown key or a wrong value, or describes no cluster; the message names the file and the key.
        """
        try:
            return Cluster(**read_fields(Path(path)))
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error


def _of_segment(segment: Segment, direction: str = "", *, times: int = 1) -> Hop:
    return Hop(
        f"{segment.kind}:{segment.name}{direction}", segment.bandwidth_bytes_per_s / times, segment.latency_s
    )


def _check_reach(cluster: Cluster) -> None:
    """Every device must be reachable from the source and back, over other devices if need be."""
    for there, what in ((True, "reached from"), (False, "heard by")):
        reached = {cluster.source_rank}
        frontier = [cluster.source_rank]
        while frontier:
            here = frontier.pop()
            for rank in cluster.ranks:
                pair = (here, rank) if there else (rank, here)
                if rank not in reached and cluster.is_connected(*pair):
                    reached.add(rank)
                    frontier.append(rank)
        lost = [cluster.devices[rank].name for rank in cluster.ranks if rank not in reached]
        if lost:
            source = cluster.devices[cluster.source_rank].name
            raise ConfigError(
                f"{len(lost)} of {len(cluster.devices)} devices cannot be {what} the source {source!r} "
                f"over any links: {', '.join(lost)}"
            )
