"""Functions of real numbers; integers become 32-bit floats, as in torch."""

from __future__ import annotations

import math
from collections.abc import Callable

from edgeflow.kernels.onnx_.emit import Arguments, Emitter
from edgeflow.kernels.onnx_.graph import Graph
from edgeflow.kernels.onnx_.ops.bounds import bounded
from edgeflow.kernels.onnx_.values import Operand, Value


def floated(g: Graph, x: Operand) -> Value:
    """Cast integers to 32-bit floats, as torch's functions of real numbers do."""
    if isinstance(x, Value):
        return x if x.is_float else g.cast(x, "float32")
    return g.constant(x, "float32")


def _real(op: str) -> Emitter:
    return lambda g, a: g.unary(op, floated(g, a["self"]))


def made_of(make: Callable[[Graph, Value], Value]) -> Emitter:
    """Return an emitter of a function that is composed of others."""
    return lambda g, a: make(g, floated(g, a["self"]))


def _exp2(g: Graph, x: Value) -> Value:
    return g.binary("Pow", g.constant(2.0, x.dtype), x)


def _log(base: float) -> Callable[[Graph, Value], Value]:
    return lambda g, x: g.mul(g.unary("Log", x), 1 / math.log(base))


def _expm1(g: Graph, x: Value) -> Value:
    """``2 sinh(x/2) exp(x/2)``: the plain difference would lose the digits of small numbers."""
    half = g.mul(x, 0.5)
    return g.mul(g.mul(g.unary("Sinh", half), 2.0), g.unary("Exp", half))


def _log1p(g: Graph, x: Value) -> Value:
    """``2 artanh(x / (x + 2))`` near zero, where the plain sum would lose the digits of small numbers."""
    small = g.mul(g.unary("Atanh", g.binary("Div", x, g.add(x, 2.0))), 2.0)
    return g.where(g.compare("Less", g.unary("Abs", x), 0.5), small, g.unary("Log", g.add(x, 1.0)))


def _log_sum(base: float | None) -> Emitter:
    def emit(g: Graph, a: Arguments) -> Value:
        x, y = floated(g, a["self"]), floated(g, a["other"])
        unit = 1.0 if base is None else math.log(base)
        gap = g.unary("Neg", g.unary("Abs", g.sub(x, y)))
        high = bounded(g, "Max", x, y)
        more = g.unary("Log", g.add(g.unary("Exp", g.mul(gap, unit)), 1.0))
        total = g.add(high, g.mul(more, 1 / unit))
        return g.where(g.compare("Equal", x, y), g.add(x, math.log(2) / unit), total)

    return emit


def _xlogy(g: Graph, a: Arguments) -> Value:
    x, y = floated(g, a["self"]), floated(g, a["other"])
    product = g.mul(x, g.unary("Log", y))
    is_zero = g.node(
        "And",
        [g.compare("Equal", x, 0.0), g.unary("Not", g.unary("IsNaN", y, "bool"))],
        product.shape,
        "bool",
    )
    return g.where(is_zero, g.constant(0, product.dtype), product)


def _hypot(g: Graph, a: Arguments) -> Value:
    x, y = floated(g, a["self"]), floated(g, a["other"])
    return g.unary("Sqrt", g.add(g.mul(x, x), g.mul(y, y)))


def _degrees(factor: float) -> Callable[[Graph, Value], Value]:
    return lambda g, x: g.mul(x, factor)


EMITTERS: dict[str, Emitter] = {
    "exp": _real("Exp"),
    "log": _real("Log"),
    "sqrt": _real("Sqrt"),
    "reciprocal": _real("Reciprocal"),
    "sin": _real("Sin"),
    "cos": _real("Cos"),
    "tan": _real("Tan"),
    "tanh": _real("Tanh"),
    "sigmoid": _real("Sigmoid"),
    "erf": _real("Erf"),
    **dict.fromkeys(("asin", "arcsin"), _real("Asin")),
    **dict.fromkeys(("acos", "arccos"), _real("Acos")),
    **dict.fromkeys(("atan", "arctan"), _real("Atan")),
    "sinh": _real("Sinh"),
    "cosh": _real("Cosh"),
    **dict.fromkeys(("asinh", "arcsinh"), _real("Asinh")),
    **dict.fromkeys(("acosh", "arccosh"), _real("Acosh")),
    **dict.fromkeys(("atanh", "arctanh"), _real("Atanh")),
    "rsqrt": made_of(lambda g, x: g.unary("Reciprocal", g.unary("Sqrt", x))),
    "erfc": made_of(lambda g, x: g.sub(1.0, g.unary("Erf", x))),
    "exp2": made_of(_exp2),
    "expm1": made_of(_expm1),
    "log2": made_of(_log(2)),
    "log10": made_of(_log(10)),
    "logaddexp": _log_sum(None),
    "logaddexp2": _log_sum(2),
    "log1p": made_of(_log1p),
    "xlogy": _xlogy,
    "hypot": _hypot,
    "deg2rad": made_of(_degrees(math.pi / 180)),
    "rad2deg": made_of(_degrees(180 / math.pi)),
}
