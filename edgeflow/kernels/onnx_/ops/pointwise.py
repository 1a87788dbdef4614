"""Elementwise comparisons, logic, selections, casts and fills."""

from __future__ import annotations

from collections.abc import Callable

from edgeflow.kernels.onnx_.emit import Arguments, Emitter
from edgeflow.kernels.onnx_.graph import Graph
from edgeflow.kernels.onnx_.ops.arithmetic import truncated
from edgeflow.kernels.onnx_.values import FLOATS, CannotEmit, Dtype, Value, result_dtype


def _compare(op: str) -> Emitter:
    return lambda g, a: g.compare(op, a["self"], a["other"])


def _where(g: Graph, a: Arguments) -> Value:
    return g.where(a.tensor("condition"), a["self"], a["other"])


def _masked_fill(g: Graph, a: Arguments) -> Value:
    x = a.tensor("self")
    value = g.of(a["value"], x.dtype)
    if value.ndim:
        raise CannotEmit("a filling of several numbers")
    return g.where(a.tensor("mask"), value, x)


def _logical(op: str) -> Emitter:
    return lambda g, a: g.binary(op, a["self"], a["other"], dtype="bool")


def _bitwise(logical: str, numeric: str) -> Emitter:
    def emit(g: Graph, a: Arguments) -> Value:
        dtype = result_dtype(a["self"], a["other"])
        if dtype in FLOATS:
            raise CannotEmit("bits of floats")
        return g.binary(logical if dtype == "bool" else numeric, a["self"], a["other"])

    return emit


def _bitwise_not(g: Graph, a: Arguments) -> Value:
    x = a.tensor("self")
    return g.unary("Not" if x.dtype == "bool" else "BitwiseNot", x)


def _to(g: Graph, a: Arguments) -> Value:
    x = a.tensor("self")
    dtype = a.dtype() or x.dtype
    if x.is_float and dtype not in FLOATS and dtype != "bool":
        x = truncated(g, x)
    return g.cast(x, dtype)


def _type_as(g: Graph, a: Arguments) -> Value:
    return _to(g, Arguments({"self": a["self"], "dtype": Dtype(a.tensor("other").dtype)}))


def _filled(value: float | None) -> Emitter:
    def emit(g: Graph, a: Arguments) -> Value:
        x = a.tensor("self")
        fill = a["value" if "value" in a else "fill_value"] if value is None else value
        return g.expand(g.of(fill, a.dtype() or x.dtype), x.shape)

    return emit


def _is_number(make: Callable[[Graph, Value], Value]) -> Emitter:
    def emit(g: Graph, a: Arguments) -> Value:
        x = a.tensor("self")
        return make(g, x) if x.is_float else make(g, g.cast(x, "float32"))

    return emit


def _infinite(g: Graph, x: Value) -> Value:
    return g.unary("IsInf", x, "bool")


def _finite(g: Graph, x: Value) -> Value:
    either = g.node("Or", [_infinite(g, x), g.unary("IsNaN", x, "bool")], x.shape, "bool")
    return g.unary("Not", either)


def _logical_not(g: Graph, a: Arguments) -> Value:
    return g.unary("Not", g.cast(a.tensor("self"), "bool"))


EMITTERS: dict[str, Emitter] = {
    "where": _where,
    "masked_fill": _masked_fill,
    "eq": _compare("Equal"),
    "ne": lambda g, a: g.unary("Not", g.compare("Equal", a["self"], a["other"])),
    **dict.fromkeys(("lt", "less"), _compare("Less")),
    **dict.fromkeys(("le", "less_equal"), _compare("LessOrEqual")),
    **dict.fromkeys(("gt", "greater"), _compare("Greater")),
    **dict.fromkeys(("ge", "greater_equal"), _compare("GreaterOrEqual")),
    "logical_and": _logical("And"),
    "logical_or": _logical("Or"),
    "logical_xor": _logical("Xor"),
    "logical_not": _logical_not,
    **dict.fromkeys(("bitwise_and", "__and__"), _bitwise("And", "BitwiseAnd")),
    **dict.fromkeys(("bitwise_or", "__or__"), _bitwise("Or", "BitwiseOr")),
    **dict.fromkeys(("bitwise_xor", "__xor__"), _bitwise("Xor", "BitwiseXor")),
    "bitwise_not": _bitwise_not,
    "_to_copy": _to,
    "type_as": _type_as,
    "zeros_like": _filled(0),
    "ones_like": _filled(1),
    "full_like": _filled(None),
    "fill": _filled(None),
    "isnan": _is_number(lambda g, x: g.unary("IsNaN", x, "bool")),
    "isinf": _is_number(_infinite),
    "isfinite": _is_number(_finite),
    "isposinf": _is_number(lambda g, x: g.unary("IsInf", x, "bool", detect_negative=0)),
    "isneginf": _is_number(lambda g, x: g.unary("IsInf", x, "bool", detect_positive=0)),
}
