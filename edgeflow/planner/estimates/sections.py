"""Sections: the graph divided wherever an exchange of rows can be of use."""

from __future__ import annotations

from edgeflow.graph.ir import Operator
from edgeflow.planner.estimates.strips import StripCosts

#: More sections than this are joined, those with the least work first.
_MAX_SECTIONS = 64


def sections_of(costs: StripCosts) -> tuple[tuple[Operator, ...], ...]:
    """Divide the operators where an exchange can be of use: before each that reads beyond its own rows,
    around those without rows, and after sums."""
    sections: list[list[Operator]] = []
    before: str = "nothing"
    for op in costs.analysis.graph.operators:
        is_sum = costs.is_sum(op)
        kind = "sum" if is_sum else "rows" if op.first_output in costs.labels else "whole"
        if kind != before or is_sum or (kind == "rows" and costs.of(op).has_halo):
            sections.append([])
        sections[-1].append(op)
        before = kind
    return _joined(costs, sections)


def _joined(costs: StripCosts, sections: list[list[Operator]]) -> tuple[tuple[Operator, ...], ...]:
    """Join neighbours, those with the least work together first, until there are few enough."""
    flops = [sum(costs.analysis.flops[op.name] for op in section) for section in sections]
    sealed = [costs.is_sum(section[-1]) for section in sections]
    while len(sections) > _MAX_SECTIONS:
        index = min(range(len(sections) - 1), key=lambda i: (sealed[i], flops[i] + flops[i + 1], i))
        sections[index : index + 2] = [sections[index] + sections[index + 1]]
        flops[index : index + 2] = [flops[index] + flops[index + 1]]
        sealed[index : index + 2] = [sealed[index + 1]]
    return tuple(tuple(section) for section in sections)
