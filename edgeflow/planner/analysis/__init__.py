"""What a graph can be cut along, found by asking the operators' rules.

`labels` splits by rows or tokens, `groups` by heads and hidden columns; `stretches` are the pieces
of the graph between which a plan may change its layout.
"""

from __future__ import annotations

from functools import cached_property

from edgeflow.graph.ir import ModelGraph, Operator
from edgeflow.planner.analysis.groups import Group, GroupFinder
from edgeflow.planner.analysis.labels import Carrier, Labels
from edgeflow.planner.analysis.stretches import Stretch, find_stretches, operators_of, weight_bytes
from edgeflow.planner.analysis.whole import WholeGraph

__all__ = ["Analysis", "Group", "Labels", "analysis_of"]


class Analysis(WholeGraph):
    """Everything that strategies ask about one graph, computed when first asked for."""

    def __init__(self, graph: ModelGraph) -> None:
        super().__init__(graph)
        self._carrier = Carrier(self)
        self._finder = GroupFinder(self)

    @cached_property
    def labellings(self) -> tuple[Labels, ...]:
        """Labels from each dim of each input, best first."""
        return self._carrier.labellings()

    @cached_property
    def labels(self) -> Labels:
        """The labels that split the most FLOPs; among equals, those of the lowest dim of the input."""
        return self.labellings[0] if self.labellings else {}

    def carried_dim(self, op: Operator, labels: Labels) -> int | None:
        """Return the output dim to which ``op`` carries the labels of its inputs, or None."""
        return self._carrier.carried_dim(op, labels)

    def sums_along(self, op: Operator, labels: Labels) -> bool:
        """Return whether ``op`` can make partial sums over the labelled dim of its input."""
        return self._carrier.sums_along(op, labels)

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """Disjoint groups in topological order."""
        return self._finder.groups()

    def column_dim(self, op: Operator) -> int | None:
        """Return the output dim along which a weight of ``op`` is cut and its FLOPs halve, or None."""
        return self._finder.column_dim(op)

    @cached_property
    def stretches(self) -> tuple[Stretch, ...]:
        """The topological order, cut where few bytes are alive and no group is divided."""
        return find_stretches(self, self.groups)

    def operators_of(self, start: int, stop: int) -> tuple[Operator, ...]:
        """Return the operators of stretches ``[start, stop)``."""
        return operators_of(self.stretches, start, stop)

    def weight_bytes(self, start: int = 0) -> list[int]:
        """Return ``[n]``: bytes of the weights that ``n`` stretches from ``start`` on read."""
        return weight_bytes(self.graph, self.stretches, start)


def analysis_of(graph: ModelGraph) -> Analysis:
    """Return the graph's analysis; it lives as long as the graph."""
    return graph.remembered(Analysis)
