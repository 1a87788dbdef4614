"""Fast estimates of one stretch in one layout, for the search; plans are compared by exact predictions.

An estimate takes every stage as a barrier: the slowest device's transfers and kernels, one after another.
It ignores overlap between stages and contention on links.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from edgeflow.cost.model import CostModel
from edgeflow.graph.ir import Operator, TensorRef
from edgeflow.plan.program import CLIENT
from edgeflow.plan.stage import Piece, Stage
from edgeflow.plan.stage_kernels import stage_kernels
from edgeflow.planner.analysis import Analysis
from edgeflow.planner.build import draft
from edgeflow.planner.layout import Layout, close
from edgeflow.sharding.region import Region

#: Tensor -> rank -> what it owns.
Ownership = Mapping[str, Mapping[int, Piece]]
#: Tensor -> rank -> what it reads.
Needs = Mapping[str, Mapping[int, Region]]


class Estimate(msgspec.Struct, frozen=True):
    """One stretch in one layout.

    Attributes:
        seconds: Of its kernels and of the transfers inside of it.
        needs: What it reads from outside.
        owned: Who owns what of its results afterwards.
    """

    seconds: float
    needs: Needs
    owned: Ownership


def transfer_s(cost: CostModel, needs: Needs, owned: Ownership, itemsizes: Mapping[str, int]) -> float:
    """Seconds until every rank has what it needs, given who owns what: the slowest receiver.

    A tensor that ``owned`` does not name is where the client is.
    """
    per_rank: dict[int, float] = {}
    latency: dict[int, float] = {}
    for tensor, readers in needs.items():
        owners = owned.get(tensor)
        for rank, need in readers.items():
            seconds, delay = _fetch_s(cost, rank, need, owners, itemsizes[tensor])
            per_rank[rank] = per_rank.get(rank, 0.0) + seconds
            latency[rank] = max(latency.get(rank, 0.0), delay)
    return max((seconds + latency[rank] for rank, seconds in per_rank.items()), default=0.0)


def _fetch_s(
    cost: CostModel, rank: int, need: Region, owners: Mapping[int, Piece] | None, itemsize: int
) -> tuple[float, float]:
    """(seconds on the wire and the processor, latency) for one rank to get one region."""
    if owners is None:
        link = cost.cluster.link(CLIENT, rank)
        return cost.message_s(
            rank
        ) + need.num_elements * itemsize / link.bandwidth_bytes_per_s, link.latency_s
    mine = owners.get(rank)
    missing = need.num_elements
    if mine is not None and mine.contraction is None:
        missing -= mine.region.intersect(need).num_elements
    if missing <= 0:
        return 0.0, 0.0
    seconds = latency = 0.0
    for owner, piece in owners.items():
        if owner == rank:
            continue
        overlap = piece.region.intersect(need).num_elements
        if piece.contraction is None:
            overlap = min(overlap, missing)
            missing -= overlap
        if overlap:
            link = cost.cluster.link(owner, rank)
            seconds += 2 * cost.message_s(rank) + overlap * itemsize / link.bandwidth_bytes_per_s
            latency = max(latency, link.latency_s)
    return seconds, latency


class Estimator:
    """Estimates by stretch and layout; stretches of equal structure share them."""

    def __init__(self, analysis: Analysis, cost: CostModel) -> None:
        self._analysis = analysis
        self._cost = cost
        self._known: dict[tuple[object, Layout], tuple[Estimate, dict[str, int]]] = {}
        self.itemsizes = {name: spec.itemsize for name, spec in analysis.graph.specs.items()}

    def estimate(self, operators: Sequence[Operator], layout: Layout) -> Estimate:
        key, positions = self._signature(operators, layout)
        known = self._known.get((key, layout))
        if known is None:
            made = self._estimate(operators, layout)
            self._known[key, layout] = (made, positions)
            return made
        estimate, theirs = known
        if theirs == positions:
            return estimate
        names = {position: name for name, position in positions.items()}
        rename = {theirs_name: names[position] for theirs_name, position in theirs.items()}
        return Estimate(
            estimate.seconds,
            {rename[name]: value for name, value in estimate.needs.items()},
            {rename[name]: value for name, value in estimate.owned.items()},
        )

    def _signature(self, operators: Sequence[Operator], layout: Layout) -> tuple[object, dict[str, int]]:
        """What an estimate depends on, tensors numbered in the order of their appearance."""
        graph = self._analysis.graph
        labellings = self._analysis.labellings
        labels = labellings[layout.labelling] if layout.kind == "rows" and labellings else {}
        inside = {op.name for op in operators}
        positions: dict[str, int] = {}

        def number(name: str) -> int:
            return positions.setdefault(name, len(positions))

        parts = []
        for op in operators:
            arguments = tuple(
                tuple(number(v.name) if isinstance(v, TensorRef) else v for v in value)
                if isinstance(value, tuple)
                else (number(value.name) if isinstance(value, TensorRef) else value)
                for _, value in op.arguments
            )
            outputs = tuple(
                (number(name), graph.specs[name], labels.get(name), self._leaves(name, inside))
                for name in op.outputs
                if name
            )
            inputs = tuple((graph.specs[name], name in graph.weights, labels.get(name)) for name in op.inputs)
            parts.append((op.target, arguments, inputs, outputs))
        measured = tuple(op.name for op in operators) if self._cost.measured else ()
        return (tuple(parts), measured), positions

    def _leaves(self, name: str, inside: set[str]) -> bool:
        graph = self._analysis.graph
        return name in graph.outputs or any(r.name not in inside for r in graph.consumers.get(name, ()))

    def _estimate(self, operators: Sequence[Operator], layout: Layout) -> Estimate:
        stages = close(self._analysis, draft(self._analysis, operators, layout))
        inside = {name for op in operators for name in op.outputs}
        owned: dict[str, dict[int, Piece]] = {}
        outside: dict[str, dict[int, Region]] = {}
        seconds = 0.0
        for stage in stages:
            needs, compute = self._stage(stage)
            for tensor, readers in needs.items():
                if tensor not in inside:
                    for rank, region in readers.items():
                        known = outside.setdefault(tensor, {}).get(rank)
                        outside[tensor][rank] = region if known is None else known.hull(region)
            inner = {tensor: readers for tensor, readers in needs.items() if tensor in inside}
            seconds += transfer_s(self._cost, inner, owned, self.itemsizes) + max(
                compute.values(), default=0.0
            )
            for shard in stage.shards:
                for tensor, piece in shard.outputs:
                    owned.setdefault(tensor, {})[shard.device] = piece
        members = {op.name for op in operators}
        leaving = {tensor: value for tensor, value in owned.items() if self._leaves(tensor, members)}
        return Estimate(seconds, outside, leaving)

    def _stage(self, stage: Stage) -> tuple[dict[str, dict[int, Region]], dict[int, float]]:
        needs: dict[str, dict[int, Region]] = {}
        compute = {}
        for shard in stage.shards:
            work = stage_kernels(self._analysis.graph, stage, shard)
            compute[shard.device] = sum(self._cost.kernel_s(shard.device, kernel) for kernel in work.kernels)
            for tensor, region in work.needs:
                needs.setdefault(tensor, {})[shard.device] = region
        return needs, compute
