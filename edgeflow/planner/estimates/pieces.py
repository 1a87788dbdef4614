"""Pieces: the graph divided wherever an exchange of rows can be of use."""

from __future__ import annotations

from edgeflow.graph.ir import Operator
from edgeflow.planner.estimates.strips import StripCosts

#: More pieces than this are joined, those with the least work first.
_MAX_PIECES = 64


def pieces_of(costs: StripCosts) -> tuple[tuple[Operator, ...], ...]:
    """Divide the operators where an exchange can be of use: before each that reads beyond its own rows,
    around those without rows, and after sums."""
    pieces: list[list[Operator]] = []
    before: str = "nothing"
    for op in costs.analysis.graph.operators:
        is_sum = costs.is_sum(op)
        kind = "sum" if is_sum else "rows" if op.first_output in costs.labels else "whole"
        if kind != before or is_sum or (kind == "rows" and costs.of(op).has_halo):
            pieces.append([])
        pieces[-1].append(op)
        before = kind
    return _joined(costs, pieces)


def _joined(costs: StripCosts, pieces: list[list[Operator]]) -> tuple[tuple[Operator, ...], ...]:
    """Join neighbours, those with the least work together first, until there are few enough."""
    flops = [sum(costs.analysis.flops[op.name] for op in piece) for piece in pieces]
    sealed = [costs.is_sum(piece[-1]) for piece in pieces]
    while len(pieces) > _MAX_PIECES:
        index = min(range(len(pieces) - 1), key=lambda i: (sealed[i], flops[i] + flops[i + 1], i))
        pieces[index : index + 2] = [pieces[index] + pieces[index + 1]]
        flops[index : index + 2] = [flops[index] + flops[index + 1]]
        sealed[index : index + 2] = [sealed[index + 1]]
    return tuple(tuple(piece) for piece in pieces)
