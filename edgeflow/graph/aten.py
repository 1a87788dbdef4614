"""Run graph operators in torch: find ATen overloads by name, convert symbols, call operators."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from edgeflow.errors import UnsupportedOperatorError
from edgeflow.graph.ir import Array, ModelGraph, Operator, Symbol, TensorRef
from edgeflow.graph.structure import to_array, to_torch


def overload(target: str) -> Any:
    """Return the ATen overload called ``target`` (``aten.conv2d.default``).

    Raises:
        UnsupportedOperatorError: If this version of torch lacks the operator, or the name is not an ATen
            overload.
    """
    parts = target.split(".")
    if len(parts) != 3 or parts[0] != "aten":
        raise UnsupportedOperatorError(f"{target!r} is not an ATen overload", operator=target)
    try:
        found = getattr(getattr(torch.ops.aten, parts[1]), parts[2])
    except AttributeError:
        found = None
    # torch's namespaces have other attributes too, such as `__setattr__`; targets may come from the network.
    if not isinstance(found, torch._ops.OpOverload):
        raise UnsupportedOperatorError(
            f"torch {torch.__version__} has no operator {target!r}", operator=target
        )
    return found


def symbol_value(symbol: Symbol) -> Any:
    """Return the torch value of a symbol; None for a device, since the executor chooses it.

    Raises:
        UnsupportedOperatorError: If the kind or the value is unknown.
    """
    if symbol.kind == "float":
        return math.nan if symbol.value == "nan" else float(symbol.value)
    if symbol.kind == "device":
        return None
    if symbol.kind in ("dtype", "layout", "memory_format"):
        value = getattr(torch, symbol.value, None)
        expected = {"dtype": torch.dtype, "layout": torch.layout, "memory_format": torch.memory_format}
        if isinstance(value, expected[symbol.kind]):
            return value
    raise UnsupportedOperatorError(f"unknown {symbol.kind} {symbol.value!r}", operator=symbol.value)


def evaluate(op: Operator, values: Mapping[str, Array]) -> list[Array]:
    """Run one operator on whole arrays and return one array per output."""

    def resolve(value: Any) -> Any:
        if isinstance(value, TensorRef):
            return to_torch(values[value.name])
        if isinstance(value, Symbol):
            return symbol_value(value)
        if isinstance(value, tuple):
            return [resolve(item) for item in value]
        return value

    with torch.no_grad():
        result = call_overload(overload(op.target), [(name, resolve(value)) for name, value in op.arguments])
    results = list(result) if isinstance(result, list | tuple) else [result]
    return [to_array(item.contiguous()) for item in results]


def evaluate_graph(graph: ModelGraph, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Run every operator whole, in order, and return the outputs by name; the reference implementation."""
    values = {**graph.weights, **inputs}
    last = {name: op for op in graph.operators for name in op.inputs}
    for op in graph.operators:
        values.update(zip(op.outputs, evaluate(op, values), strict=True))
        for name in set(op.inputs):
            if last[name] is op and name not in graph.outputs:
                del values[name]
    return {name: values[name] for name in graph.outputs}


def call_overload(function: Any, arguments: list[tuple[str, Any]]) -> Any:
    """Call an overload with named arguments; ``self`` is not allowed as a keyword, so it goes by position."""
    positional, named = split_arguments(function, arguments)
    return function(*positional, **named)


def split_arguments(function: Any, arguments: list[tuple[str, Any]]) -> tuple[list[Any], dict[str, Any]]:
    """Return (positional, keyword) arguments for an overload: positional until the first one is missing."""
    given = dict(arguments)
    positional = []
    named = {}
    stopped = False
    for argument in function._schema.arguments:
        if argument.name not in given:
            stopped = True
        elif argument.kwarg_only or stopped:
            named[argument.name] = given[argument.name]
        else:
            positional.append(given[argument.name])
    return positional, named
