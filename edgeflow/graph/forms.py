"""Operators that are alike: models repeat blocks, and what is found out about one holds for the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from edgeflow.graph.ir import ModelGraph, Operator, TensorRef


class Likeness(NamedTuple):
    """The first operator of the graph that is like another, and what its tensors are called there.

    Attributes:
        first: Same target, same arguments but for the names of tensors, same shapes and dtypes.
        names: Tensor of ``first`` -> tensor of the operator in its place; None where it is ``first`` itself.
    """

    first: Operator
    names: Mapping[str, str] | None


class Forms:
    """`Likeness` of every operator of a graph."""

    def __init__(self, graph: ModelGraph) -> None:
        firsts: dict[object, Operator] = {}
        self._likeness: dict[str, Likeness] = {}
        for op in graph.operators:
            first = firsts.setdefault(_form(graph, op), op)
            # Tensors stand in the same places, so that one name is never two.
            names = dict(zip((*first.inputs, *first.outputs), (*op.inputs, *op.outputs), strict=True))
            self._likeness[op.name] = Likeness(first, None if first is op else names)

    def of(self, op: Operator) -> Likeness:
        return self._likeness[op.name]


def forms_of(graph: ModelGraph) -> Forms:
    """Return the graph's own; they live as long as the graph."""
    return graph.remembered(Forms)


def _form(graph: ModelGraph, op: Operator) -> object:
    """What an operator is but for the names of its tensors, which are numbered as they appear."""
    numbers = {name: index for index, name in enumerate(dict.fromkeys(op.inputs))}

    def numbered(value: Any) -> Any:
        return ("tensor", numbers[value.name]) if isinstance(value, TensorRef) else value

    arguments = tuple(
        (name, tuple(numbered(item) for item in value) if isinstance(value, tuple) else numbered(value))
        for name, value in op.arguments
    )
    inputs = tuple((graph.specs[name], name in graph.weights) for name in numbers)
    outputs = tuple(graph.specs[name] if name else None for name in op.outputs)
    # 1, 1.0 and True are equal, and may mean different things.
    return op.target, arguments, repr(arguments), inputs, outputs
