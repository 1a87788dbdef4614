"""Fast estimates of one stretch in one layout, for the search; plans are compared by exact predictions.

An estimate takes every stage as a barrier: first its transfers, all at once, until the busiest processor or
network resource is done with them, then its kernels on the slowest device. It ignores overlap. Where runs of
operators were measured, a stretch on one device costs what it does among all operators of the graph, since
its neighbours mostly stand on the same device; in any other layout it costs what its own stages do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from edgeflow.cost.model import CostModel
from edgeflow.graph.ir import Operator, TensorRef
from edgeflow.plan.program import Kernel
from edgeflow.plan.stage import Piece, Stage
from edgeflow.plan.stage_kernels import stage_kernels
from edgeflow.planner.analysis import Analysis
from edgeflow.planner.estimates.network import Needs, Network, Ownership
from edgeflow.planner.layouts.build import draft
from edgeflow.planner.layouts.layout import Layout, close
from edgeflow.sharding.region import Region

#: Indices of the `Analysis.labellings` that a layout cuts along; empty if it cuts along none.
_Labellings = tuple[int | None, ...]


class Estimate(msgspec.Struct, frozen=True, gc=False):
    """One stretch in one layout.

    Attributes:
        seconds: Seconds of its kernels and inner transfers.
        needs: Regions that it reads from outside.
        owned: What each rank owns of its results afterwards.
        busy_s: Rank -> seconds of its kernels.
        energy_j: Joules of its kernels and inner transfers, beyond what the devices spend at rest.
    """

    seconds: float
    needs: Needs
    owned: Ownership
    busy_s: Mapping[int, float]
    energy_j: float


class Estimator:
    """Estimates by stretch and layout; stretches of equal structure share them."""

    def __init__(self, analysis: Analysis, cost: CostModel) -> None:
        self.analysis = analysis
        self._cost = cost
        self._everything = tuple(op.name for op in analysis.graph.operators)
        self._known: dict[tuple[object, Layout], tuple[Estimate, dict[str, int]]] = {}
        self._signatures: dict[tuple[tuple[Operator, ...], _Labellings], tuple[object, dict[str, int]]] = {}
        itemsizes = {name: spec.itemsize for name, spec in analysis.graph.specs.items()}
        self.network = Network(cost, itemsizes)

    def estimate(self, operators: Sequence[Operator], layout: Layout) -> Estimate:
        is_labelled = layout.kind == "rows" and bool(self.analysis.labellings)
        asked = (tuple(operators), (layout.labelling, layout.across) if is_labelled else ())
        if asked not in self._signatures:
            self._signatures[asked] = self._signature(*asked)
        key, positions = self._signatures[asked]
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
            estimate.busy_s,
            estimate.energy_j,
        )

    def _signature(
        self, operators: Sequence[Operator], labellings: _Labellings
    ) -> tuple[object, dict[str, int]]:
        """Return what an estimate depends on, with tensors numbered in the order of their appearance."""
        graph = self.analysis.graph
        labels = [self.analysis.labellings[index] for index in labellings if index is not None]
        inside = {op.name for op in operators}
        positions: dict[str, int] = {}

        def number(name: str) -> int:
            return positions.setdefault(name, len(positions))

        def labelled(name: str) -> tuple[int | None, ...]:
            return tuple(item.get(name) for item in labels)

        parts = []
        for op in operators:
            arguments = tuple(
                tuple(number(v.name) if isinstance(v, TensorRef) else v for v in value)
                if isinstance(value, tuple)
                else (number(value.name) if isinstance(value, TensorRef) else value)
                for _, value in op.arguments
            )
            outputs = tuple(
                (number(name), graph.specs[name], labelled(name), self._leaves(name, inside))
                for name in op.outputs
                if name
            )
            inputs = tuple((graph.specs[name], name in graph.weights, labelled(name)) for name in op.inputs)
            parts.append((op.target, arguments, inputs, outputs))
        measured = tuple(op.name for op in operators) if self._cost.measured else ()
        return (tuple(parts), measured), positions

    def _leaves(self, name: str, inside: set[str]) -> bool:
        graph = self.analysis.graph
        return name in graph.outputs or any(r.name not in inside for r in graph.consumers.get(name, ()))

    def _estimate(self, operators: Sequence[Operator], layout: Layout) -> Estimate:
        stages = close(self.analysis, draft(self.analysis, operators, layout))
        inside = {name for op in operators for name in op.outputs}
        owned: dict[str, dict[int, Piece]] = {}
        outside: dict[str, dict[int, Region]] = {}
        busy_s: dict[int, float] = {}
        seconds = energy_j = 0.0
        for stage in stages:
            needs, compute = self._stage(stage, is_alone=layout.kind == "single")
            for tensor, readers in needs.items():
                if tensor not in inside:
                    for rank, region in readers.items():
                        known = outside.setdefault(tensor, {}).get(rank)
                        outside[tensor][rank] = region if known is None else known.hull(region)
            inner = {tensor: readers for tensor, readers in needs.items() if tensor in inside}
            moved_s, moved_j = self.network.moved(inner, owned)
            seconds += moved_s + max(compute.values(), default=0.0)
            energy_j += moved_j
            for rank, busy in compute.items():
                busy_s[rank] = busy_s.get(rank, 0.0) + busy
            made: dict[str, dict[int, Piece]] = {}
            for shard in stage.shards:
                for tensor, piece in shard.outputs:
                    made.setdefault(tensor, {})[shard.device] = piece
            owned.update(made)
        members = {op.name for op in operators}
        leaving = {tensor: value for tensor, value in owned.items() if self._leaves(tensor, members)}
        devices = self._cost.cluster.devices
        energy_j += sum(busy * devices[rank].power_compute_w for rank, busy in busy_s.items())
        return Estimate(seconds, outside, leaving, busy_s, energy_j)

    def _stage(
        self, stage: Stage, *, is_alone: bool
    ) -> tuple[dict[str, dict[int, Region]], dict[int, float]]:
        needs: dict[str, dict[int, Region]] = {}
        compute: dict[int, float] = {}
        is_shared = len({shard.device for shard in stage.shards}) > 1
        for shard in stage.shards:
            if not stage.operators:
                for tensor, piece in shard.outputs:
                    needs.setdefault(tensor, {})[shard.device] = piece.region
                continue
            work = stage_kernels(self.analysis.graph, stage, shard)
            seconds = self._seconds(shard.device, work.kernels, is_alone=is_alone, is_shared=is_shared)
            compute[shard.device] = compute.get(shard.device, 0.0) + seconds
            for tensor, region in work.needs:
                needs.setdefault(tensor, {})[shard.device] = region
        return needs, compute

    def _seconds(self, rank: int, kernels: Sequence[Kernel], *, is_alone: bool, is_shared: bool) -> float:
        if is_alone and self._cost.measured_runs is not None:
            return sum(self._cost.kernels_s(rank, kernels, among=self._everything))
        return self._cost.compute_s(rank, kernels, is_shared=is_shared)
