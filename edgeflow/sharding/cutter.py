"""A cache of the cuts of one graph: planning asks for the same cuts many times."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from edgeflow.errors import InvalidPlanError
from edgeflow.graph.forms import forms_of
from edgeflow.graph.ir import ModelGraph, Operator
from edgeflow.sharding.cut import Cut, renamed
from edgeflow.sharding.region import Interval, Region
from edgeflow.sharding.rules import cut


class Cutter:
    """Cached `edgeflow.sharding.rules.cut` for one graph; identical operators share cache entries."""

    def __init__(self, graph: ModelGraph) -> None:
        self._specs = graph.specs
        self._forms = forms_of(graph)
        self._known: dict[tuple[str, Region, Interval | None], Cut] = {}
        self._needs: dict[tuple[str, Region, Interval | None], Mapping[str, Region]] = {}

    def cut(self, op: Operator, region: Region, contraction: Interval | None = None) -> Cut:
        """Return `edgeflow.sharding.rules.cut` of an operator of the graph; same arguments and errors."""
        first, names = self._forms.of(op)
        key = (first.name, region, contraction)
        known = self._known.get(key)
        if known is None:
            try:
                known = self._known[key] = cut(first, self._specs, region, contraction)
            except InvalidPlanError:
                if names is not None:  # raise an error that names the requested operator, not `first`
                    cut(op, self._specs, region, contraction)
                raise
        return known if names is None else msgspec.structs.replace(known, steps=renamed(known.steps, names))

    def needs(
        self, op: Operator, region: Region, contraction: Interval | None = None
    ) -> Mapping[str, Region]:
        """Return `Cut.needs` of the cut with these arguments."""
        key = (op.name, region, contraction)
        known = self._needs.get(key)
        if known is None:
            first, names = self._forms.of(op)
            if names is None:
                known = self.cut(op, region, contraction).needs
            else:
                known = {names[name]: need for name, need in self.needs(first, region, contraction).items()}
            self._needs[key] = known
        return known


def cutter_of(graph: ModelGraph) -> Cutter:
    """Return the graph's cutter; it is made once and lives as long as the graph."""
    return graph.remembered(Cutter)
