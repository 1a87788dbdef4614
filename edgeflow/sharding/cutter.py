"""Cuts of one graph, remembered: planning asks for the same ones many times."""

from __future__ import annotations

from collections.abc import Mapping

from edgeflow.graph.ir import ModelGraph, Operator
from edgeflow.sharding.cut import Cut
from edgeflow.sharding.region import Interval, Region
from edgeflow.sharding.rules import cut


class Cutter:
    """`edgeflow.sharding.rules.cut` for one graph, with its answers kept."""

    def __init__(self, graph: ModelGraph) -> None:
        self._specs = graph.specs
        self._known: dict[tuple[str, Region, Interval | None], Cut] = {}
        self._needs: dict[tuple[str, Region, Interval | None], Mapping[str, Region]] = {}

    def cut(self, op: Operator, region: Region, contraction: Interval | None = None) -> Cut:
        key = (op.name, region, contraction)
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = cut(op, self._specs, region, contraction)
        return known

    def needs(
        self, op: Operator, region: Region, contraction: Interval | None = None
    ) -> Mapping[str, Region]:
        """`Cut.needs` of that cut."""
        key = (op.name, region, contraction)
        known = self._needs.get(key)
        if known is None:
            known = self._needs[key] = self.cut(op, region, contraction).needs
        return known


def cutter_of(graph: ModelGraph) -> Cutter:
    """Return the graph's own cutter; it lives as long as the graph."""
    return graph.remembered(Cutter)
