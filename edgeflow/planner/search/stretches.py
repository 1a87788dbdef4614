"""What runs of an analysis's stretches hold: their operators, and their weights, each counted once."""

from __future__ import annotations

from edgeflow.graph.ir import Operator
from edgeflow.planner.analysis import Analysis


def operators_of(analysis: Analysis, start: int, stop: int) -> tuple[Operator, ...]:
    """The operators of stretches ``[start, stop)``."""
    return tuple(op for stretch in analysis.stretches[start:stop] for op in stretch)


def weight_bytes(analysis: Analysis, start: int = 0) -> list[int]:
    """``[n]``: bytes of the weights that ``n`` stretches from ``start`` on read; a weight counts once."""
    graph, seen, total, found = analysis.graph, set[str](), 0, [0]
    for stretch in analysis.stretches[start:]:
        fresh = {name for op in stretch for name in op.inputs if name in graph.weights} - seen
        seen |= fresh
        total += sum(graph.specs[name].num_bytes for name in fresh)
        found.append(total)
    return found
