"""Stretches: pieces of the topological order between which few bytes are alive."""

from __future__ import annotations

from collections.abc import Sequence

from edgeflow.graph.ir import ModelGraph, Operator
from edgeflow.planner.analysis.groups import Group
from edgeflow.planner.analysis.whole import WholeGraph

#: Stretches are joined until each has this share of the FLOPs.
_MIN_STRETCH_SHARE = 1 / 50

#: Consecutive operators; all stretches together are the graph.
Stretch = tuple[Operator, ...]


def find_stretches(whole: WholeGraph, groups: Sequence[Group]) -> tuple[Stretch, ...]:
    """Cut the topological order where few bytes are alive; no group is divided."""
    operators = whole.graph.operators
    allowed = _boundaries(whole.graph, groups)
    stretches: list[Stretch] = []
    start, flops = 0, 0
    for index, op in enumerate(operators):
        flops += whole.flops[op.name]
        if index + 1 in allowed and flops >= _MIN_STRETCH_SHARE * whole.total_flops:
            stretches.append(operators[start : index + 1])
            start, flops = index + 1, 0
    if start < len(operators):
        stretches.append(operators[start:])
    return tuple(stretches)


def _boundaries(graph: ModelGraph, groups: Sequence[Group]) -> set[int]:
    """Return the positions between operators where alive bytes have a local minimum, outside of groups."""
    alive = graph.alive_bytes
    inside: set[int] = set()
    position = {op.name: index for index, op in enumerate(graph.operators)}
    for group in groups:
        first = min(position[name] for name in group.operators)
        inside.update(range(first + 1, position[group.root] + 1))
    last = len(alive) - 1
    return {
        index
        for index in range(1, last)
        if index not in inside
        and alive[index] <= alive[index - 1] * 1.01
        and alive[index] <= alive[index + 1] * 1.01
    }


def operators_of(stretches: Sequence[Stretch], start: int, stop: int) -> tuple[Operator, ...]:
    """Return the operators of stretches ``[start, stop)``."""
    return tuple(op for stretch in stretches[start:stop] for op in stretch)


def weight_bytes(graph: ModelGraph, stretches: Sequence[Stretch], start: int = 0) -> list[int]:
    """Return ``[n]``: bytes of the weights that ``n`` stretches from ``start`` on read, each weight once."""
    seen, total, found = set[str](), 0, [0]
    for stretch in stretches[start:]:
        fresh = {name for op in stretch for name in op.inputs if name in graph.weights} - seen
        seen |= fresh
        total += sum(graph.specs[name].num_bytes for name in fresh)
        found.append(total)
    return found
