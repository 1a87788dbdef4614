"""Maxima, minima and clamping, with NaN as in torch."""

from __future__ import annotations

from edgeflow.kernels.onnx_.emit import Arguments, Emitter
from edgeflow.kernels.onnx_.graph import Graph
from edgeflow.kernels.onnx_.values import FLOATS, CannotEmit, Value, broadcast_shapes, result_dtype


def _extreme(op: str) -> Emitter:
    """Emit ONNX `Max` or `Min`, which leave NaN undefined, and put NaN where torch has it."""

    def emit(g: Graph, a: Arguments) -> Value:
        x, y = a["self"], a["other"]
        dtype = result_dtype(x, y)
        if dtype == "bool":
            return g.binary("Or" if op == "Max" else "And", x, y)
        return bounded(g, op, g.of(x, dtype), g.of(y, dtype))

    return emit


def bounded(g: Graph, op: str, x: Value, y: Value) -> Value:
    shape = broadcast_shapes(x.shape, y.shape)
    if x.is_float:
        is_above = g.compare("Greater" if op == "Max" else "Less", y, x)
        taken = g.where(is_above, y, x)
        return g.where(g.unary("IsNaN", y, "bool"), y, taken)
    return g.node(op, [x, y], shape, x.dtype)


def clamp(g: Graph, a: Arguments) -> Value:
    x, low, high = a.tensor("self"), a.get("min"), a.get("max")
    dtype = result_dtype(*(item for item in (x, low, high) if item is not None))
    if dtype == "bool":
        raise CannotEmit("bounds of bools")
    made = g.cast(x, dtype)
    if not isinstance(low, Value) and not isinstance(high, Value):
        if made.is_float and low is not None and high is not None and low > high:
            return g.expand(g.constant(high, dtype), x.shape)
        bounds = [None if item is None else g.constant(item, dtype) for item in (low, high)]
        return g.node("Clip", [made, *bounds], made.shape, dtype)
    if low is not None:
        made = bounded(g, "Max", made, g.of(low, dtype))
    if high is not None:
        made = bounded(g, "Min", made, g.of(high, dtype))
    return made


def _numeric_extreme(op: str) -> Emitter:
    """Emit the extreme of the operands that are not NaN."""

    def emit(g: Graph, a: Arguments) -> Value:
        x, y = a["self"], a["other"]
        dtype = result_dtype(x, y)
        left, right = g.of(x, dtype), g.of(y, dtype)
        if dtype not in FLOATS:
            return (
                g.binary("Or" if op == "Max" else "And", x, y)
                if dtype == "bool"
                else bounded(g, op, left, right)
            )
        made = g.where(g.unary("IsNaN", left, "bool"), right, bounded(g, op, left, right))
        return g.where(g.unary("IsNaN", right, "bool"), left, made)

    return emit


EMITTERS: dict[str, Emitter] = {
    **dict.fromkeys(("maximum", "max.other"), _extreme("Max")),
    **dict.fromkeys(("minimum", "min.other"), _extreme("Min")),
    **dict.fromkeys(("clamp", "clip", "clamp_min", "clamp_max"), clamp),
    "fmax": _numeric_extreme("Max"),
    "fmin": _numeric_extreme("Min"),
}
