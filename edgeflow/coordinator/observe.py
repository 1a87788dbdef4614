"""From the records of workers to the observations that the balancer reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from edgeflow.balancer import Observation
from edgeflow.cluster.cluster import Cluster
from edgeflow.cost import CostModel, work_of
from edgeflow.plan import Decision
from edgeflow.plan.program import CLIENT, Compute, Receive, Send, shared_stages

#: By request: position of the instruction, when it began, when it ended.
Records = Mapping[int, Sequence[tuple[int, float, float]]]

#: A receive that waited less found its frame in memory, and does not tell when the frame arrived.
_WAITED_S = 0.2e-3


class Observer:
    """Reads the records of one way of a plan.

    Args:
        cost: Predicts the durations that are compared with.
    """

    def __init__(self, plan: Decision, cost: CostModel) -> None:
        self._plan = plan
        cost = cost_on(cost, plan.cluster)
        #: (rank, position) -> expected seconds, and the parts of it by family.
        self._expected: dict[tuple[int, int], tuple[float, dict[str, float]]] = {}
        #: Tag of a frame -> where it is sent, and where it is received, as (rank, position).
        self._sends: dict[int, tuple[int, int]] = {}
        self._receives: dict[int, tuple[int, int]] = {}
        self._num_bytes: dict[int, int] = {}
        shared = shared_stages(plan.programs)
        for rank, program in plan.programs.items():
            for position, instruction in enumerate(program.instructions):
                match instruction:
                    case Compute():
                        seconds = cost.instruction_s(rank, instruction, program, shared)
                        families = _by_family(cost, rank, instruction, seconds)
                        self._expected[rank, position] = (sum(families.values()), families)
                    case Send():
                        self._sends[instruction.tag] = (rank, position)
                        self._num_bytes[instruction.tag] = instruction.num_bytes
                    case Receive():
                        self._receives[instruction.tag] = (rank, position)

    def read(self, records: Mapping[int, Records]) -> list[Observation]:
        """Return how long kernels, transfers and requests took, in the order in which they ended.

        Args:
            records: Rank -> its records, on one clock.
        """
        times = {
            (request, rank, position): (start_s, stop_s)
            for rank, requests in records.items()
            for request, items in requests.items()
            for position, start_s, stop_s in items
        }
        found = [
            self._compute(rank, position, start_s, stop_s)
            for (_, rank, position), (start_s, stop_s) in times.items()
            if self._expected.get((rank, position), (0.0, {}))[0] > 0
        ]
        for request in {request for requests in records.values() for request in requests}:
            for tag, (sender, sent) in self._sends.items():
                if tag not in self._receives:
                    continue
                receiver, received = self._receives[tag]
                left = times.get((request, sender, sent))
                came = times.get((request, receiver, received))
                if (
                    left
                    and came
                    and came[1] - came[0] > _WAITED_S
                    and self._host(sender) != self._host(receiver)
                ):
                    found.append(self._transfer(sender, receiver, left[0], came[1], self._num_bytes[tag]))
        found += [self._request(items) for items in records.get(CLIENT, {}).values() if items]
        return sorted(found, key=lambda item: item.stop_s)

    def _compute(self, rank: int, position: int, start_s: float, stop_s: float) -> Observation:
        expected_s, families = self._expected[rank, position]
        return Observation(
            kind="compute",
            device=self._name(rank),
            stop_s=stop_s,
            seconds=stop_s - start_s,
            expected_s=expected_s,
            families=families,
        )

    def _request(self, items: Sequence[tuple[int, float, float]]) -> Observation:
        stop_s = max(stop for _, _, stop in items)
        return Observation(
            kind="request",
            device=self._name(CLIENT),
            stop_s=stop_s,
            seconds=stop_s - min(start for _, start, _ in items),
            expected_s=0.0,
        )

    def _transfer(
        self, sender: int, receiver: int, start_s: float, stop_s: float, num_bytes: int
    ) -> Observation:
        return Observation(
            kind="transfer",
            device=self._name(sender),
            peer=self._name(receiver),
            stop_s=stop_s,
            seconds=stop_s - start_s,
            expected_s=self._plan.cluster.distance_s(sender, receiver, num_bytes),
            num_bytes=num_bytes,
        )

    def _host(self, rank: int) -> int:
        return self._plan.cluster.source_rank if rank == CLIENT else rank

    def _name(self, rank: int) -> str:
        return self._plan.cluster.devices[self._host(rank)].name


def cost_on(cost: CostModel, cluster: Cluster) -> CostModel:
    """Return the same costs on another cluster, of which some devices may be known."""
    names = {device.name for device in cluster.devices}
    corrections = {name: item for name, item in cost.corrections.items() if name in names}
    return msgspec.structs.replace(cost, cluster=cluster, corrections=corrections)


def _by_family(cost: CostModel, rank: int, compute: Compute, seconds: float) -> dict[str, float]:
    """Return family -> expected seconds of its kernels; the call's overhead is shared out in proportion."""
    families: dict[str, float] = {}
    parts_s = cost.kernels_s(rank, compute.kernels)
    for kernel, part_s in zip(compute.kernels, parts_s, strict=True):
        family = work_of(kernel).family
        families[family] = families.get(family, 0.0) + part_s
    total_s = sum(parts_s)
    factor = seconds / total_s if total_s else 1.0
    return {family: part_s * factor for family, part_s in families.items()}
