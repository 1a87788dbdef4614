"""Identical operators of a graph: models repeat blocks, so results for one operator hold for its copies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from edgeflow.graph.ir import ModelGraph, Operator, TensorRef


class Likeness(NamedTuple):
    """The first operator of the graph that is identical to another one, except for the names of tensors.

    Attributes:
        first: Has the same target, arguments, shapes and dtypes.
        names: Tensor of ``first`` -> the other operator's tensor; None if the operator is ``first`` itself.
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
            # Equal forms have equal patterns of repeated tensors, so the mapping is unambiguous.
            names = dict(zip((*first.inputs, *first.outputs), (*op.inputs, *op.outputs), strict=True))
            self._likeness[op.name] = Likeness(first, None if first is op else names)

    def of(self, op: Operator) -> Likeness:
        """Return the likeness of an operator of the graph."""
        return self._likeness[op.name]


def forms_of(graph: ModelGraph) -> Forms:
    """Return the graph's `Forms`; they are made once and live as long as the graph."""
    return graph.remembered(Forms)


def _form(graph: ModelGraph, op: Operator) -> object:
    """Return a key that is equal for identical operators; tensors are numbered by first appearance."""
    numbers = {name: index for index, name in enumerate(dict.fromkeys(op.inputs))}

    def numbered(value: Any) -> Any:
        return ("tensor", numbers[value.name]) if isinstance(value, TensorRef) else value

    arguments = tuple(
        (name, tuple(numbered(item) for item in value) if isinstance(value, tuple) else numbered(value))
        for name, value in op.arguments
    )
    inputs = tuple((graph.specs[name], name in graph.weights) for name in numbers)
    outputs = tuple(graph.specs[name] if name else None for name in op.outputs)
    # 1, 1.0 and True compare equal but may mean different things, hence `repr`.
    return op.target, arguments, repr(arguments), inputs, outputs
