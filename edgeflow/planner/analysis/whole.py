"""A graph's operators computed whole: their cuts, regions and FLOPs, the reference for every split."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

from edgeflow.graph.ir import ModelGraph, Operator
from edgeflow.sharding.cut import Cut
from edgeflow.sharding.cutter import Cutter, cutter_of
from edgeflow.sharding.region import Region


class WholeGraph:
    """Cuts, regions and FLOPs of a graph's whole operators, computed when first asked for."""

    def __init__(self, graph: ModelGraph) -> None:
        self.graph = graph
        self.cutter: Cutter = cutter_of(graph)

    def whole(self, op: Operator) -> Cut:
        """Return the cut that computes an operator's whole output."""
        return self.cutter.cut(op, self.full(op.first_output))

    def full(self, tensor: str) -> Region:
        return Region.full(self.graph.specs[tensor].shape)

    @cached_property
    def flops(self) -> Mapping[str, int]:
        """Operator -> FLOPs of the whole of it."""
        return {op.name: self.whole(op).flops for op in self.graph.operators}

    @cached_property
    def total_flops(self) -> int:
        return max(1, sum(self.flops.values()))
