"""Sums, products, quotients, remainders, powers, signs and rounding, with torch's rules of dtypes."""

from __future__ import annotations

from typing import Any

from edgeflow.kernels.onnx_.emit import Arguments, Emitter
from edgeflow.kernels.onnx_.graph import Graph
from edgeflow.kernels.onnx_.ops.real import floated
from edgeflow.kernels.onnx_.values import (
    FLOATS,
    CannotEmit,
    Operand,
    Value,
    broadcast_shapes,
    result_dtype,
)


def _kept(op: str) -> Emitter:
    """Return a function that leaves integers unchanged."""
    return lambda g, a: _kept_value(g, op, a.tensor("self"))


def _kept_value(g: Graph, op: str, x: Value) -> Value:
    return g.unary(op, x) if x.is_float else x


def _plain(op: str) -> Emitter:
    return lambda g, a: g.unary(op, a.tensor("self"))


def _sum(g: Graph, a: Operand, b: Operand, alpha: Any, op: str) -> Value:
    dtype = result_dtype(a, b)
    if alpha not in (1, None):
        if dtype == "bool":
            raise CannotEmit("a factor of bools")
        b = g.binary("Mul", b, alpha, dtype=dtype) if isinstance(b, Value) else b * alpha
    if dtype == "bool":
        if op == "Sub":
            raise CannotEmit("a difference of bools")
        return g.binary("Or", a, b)
    return g.binary(op, a, b, dtype=dtype)


def _add(g: Graph, a: Arguments) -> Value:
    return _sum(g, a["self"], a["other"], a.get("alpha", 1), "Add")


def _subtract(g: Graph, a: Arguments) -> Value:
    return _sum(g, a["self"], a["other"], a.get("alpha", 1), "Sub")


def _subtract_reversed(g: Graph, a: Arguments) -> Value:
    return _sum(g, a["other"], a["self"], a.get("alpha", 1), "Sub")


def _multiply(g: Graph, a: Arguments) -> Value:
    x, y = a["self"], a["other"]
    return g.binary("And" if result_dtype(x, y) == "bool" else "Mul", x, y)


def _divide(g: Graph, a: Arguments) -> Value:
    x, y, mode = a["self"], a["other"], a.get("rounding_mode")
    dtype = result_dtype(x, y)
    if mode is not None and dtype not in FLOATS:
        return _integer_quotient(g, x, y, dtype, floor=mode == "floor")
    quotient = g.binary("Div", x, y, dtype=dtype if dtype in FLOATS else "float32")
    if mode == "floor":
        return _floor_quotient(g, x, y, dtype)
    return truncated(g, quotient) if mode == "trunc" else quotient


def _floor_divide(g: Graph, a: Arguments) -> Value:
    x, y = a["self"], a["other"]
    dtype = result_dtype(x, y)
    if dtype in FLOATS:
        return _floor_quotient(g, x, y, dtype)
    return _integer_quotient(g, x, y, dtype, floor=True)


def _integer_quotient(g: Graph, x: Operand, y: Operand, dtype: str, *, floor: bool) -> Value:
    """Divide integers; ONNX rounds towards zero."""
    if dtype == "bool":
        raise CannotEmit("a quotient of bools")
    quotient = g.binary("Div", x, y, dtype=dtype)
    if not floor:
        return quotient
    rest = g.sub(g.of(x, dtype), g.mul(quotient, g.of(y, dtype)))
    is_below = _has_other_sign(g, rest, g.of(y, dtype))
    return g.sub(quotient, g.cast(is_below, dtype))


def _floor_quotient(g: Graph, x: Operand, y: Operand, dtype: str) -> Value:
    """Python's floor division of floats, from the remainder, which is exact, unlike the quotient."""
    top, bottom = g.of(x, dtype), g.of(y, dtype)
    rest = g.node("Mod", [top, bottom], broadcast_shapes(top.shape, bottom.shape), dtype, fmod=1)
    quotient = g.binary("Div", g.sub(top, rest), bottom)
    lowered = g.sub(quotient, g.cast(_has_other_sign(g, rest, bottom), dtype))
    floor = g.unary("Floor", lowered)
    far = g.compare("Greater", g.sub(lowered, floor), 0.5)
    whole = g.add(floor, g.cast(far, dtype))
    infinite = g.binary("Div", top, bottom)
    return g.where(g.compare("Equal", bottom, g.constant(0, dtype)), infinite, whole)


def _has_other_sign(g: Graph, rest: Value, bottom: Value) -> Value:
    """Where the remainder is not zero and has not the divisor's sign: the floor is one lower there."""
    zero = g.constant(0, rest.dtype)
    has_rest = g.unary("Not", g.compare("Equal", rest, zero))
    differs = g.node(
        "Xor", [g.compare("Less", rest, zero), g.compare("Less", bottom, zero)], rest.shape, "bool"
    )
    return g.node("And", [has_rest, differs], rest.shape, "bool")


def _remainder(g: Graph, a: Arguments) -> Value:
    """Return the remainder with the divisor's sign."""
    x, y = a["self"], a["other"]
    dtype = result_dtype(x, y)
    if dtype == "bool":
        raise CannotEmit("a remainder of bools")
    top, bottom = g.of(x, dtype), g.of(y, dtype)
    shape = broadcast_shapes(top.shape, bottom.shape)
    if dtype not in FLOATS:
        return g.node("Mod", [top, bottom], shape, dtype)
    rest = g.node("Mod", [top, bottom], shape, dtype, fmod=1)
    return g.where(_has_other_sign(g, rest, bottom), g.add(rest, bottom), rest)


def _fmod(g: Graph, a: Arguments) -> Value:
    x, y = a["self"], a["other"]
    dtype = result_dtype(x, y)
    if dtype == "bool":
        raise CannotEmit("a remainder of bools")
    top, bottom = g.of(x, dtype), g.of(y, dtype)
    return g.node("Mod", [top, bottom], broadcast_shapes(top.shape, bottom.shape), dtype, fmod=1)


def _power(g: Graph, a: Arguments) -> Value:
    x, y = a["self"], a["exponent"]
    dtype = result_dtype(x, y)
    if dtype not in FLOATS:
        if isinstance(y, int) and not isinstance(y, bool) and 0 <= y <= 4 and dtype != "bool":
            base = g.of(x, dtype)
            return _product(g, base, y)
        raise CannotEmit("powers of integers")
    if isinstance(y, int | float) and isinstance(x, Value):
        base = g.cast(x, dtype)
        if y in (2, 3):
            return _product(g, base, int(y))
        if y == 0.5:
            return g.unary("Sqrt", base)
        if y == -1:
            return g.unary("Reciprocal", base)
        if y == 1:
            return base
    return g.binary("Pow", x, y, dtype=dtype)


def _product(g: Graph, x: Value, count: int) -> Value:
    if count == 0:
        return g.expand(g.constant(1, x.dtype), x.shape)
    made = x
    for _ in range(count - 1):
        made = g.mul(made, x)
    return made


def truncated(g: Graph, x: Value) -> Value:
    if not x.is_float:
        return x
    return g.mul(g.unary("Sign", x), g.unary("Floor", g.unary("Abs", x)))


def _lerp(g: Graph, a: Arguments) -> Value:
    x, end, weight = a.tensor("self"), a.tensor("end"), a["weight"]
    step = g.sub(end, x)
    if isinstance(weight, Value):
        near = g.add(x, g.mul(step, weight))
        far = g.sub(end, g.mul(step, g.sub(1.0, weight)))
        return g.where(g.compare("Less", g.unary("Abs", weight), 0.5), near, far)
    if abs(weight) < 0.5:
        return g.add(x, g.mul(step, float(weight)))
    return g.sub(end, g.mul(step, 1.0 - weight))


def _add_of(op: str) -> Emitter:
    def emit(g: Graph, a: Arguments) -> Value:
        x, value = a.tensor("self"), a.get("value", 1)
        if not x.is_float:
            raise CannotEmit("sums of integer products")
        made = g.binary(op, a["tensor1"], a["tensor2"])
        return g.add(x, made if value == 1 else g.mul(made, value))

    return emit


def _sign(g: Graph, a: Arguments) -> Value:
    x = a.tensor("self")
    return x if x.dtype == "bool" else g.unary("Sign", x)


def _heaviside(g: Graph, a: Arguments) -> Value:
    x, value = a.tensor("self"), a.tensor("values")
    step = g.cast(g.compare("Greater", x, 0), x.dtype)
    made = g.where(g.compare("Equal", x, 0), value, step)
    return g.where(g.unary("IsNaN", x, "bool"), step, made) if x.is_float else made


def _is_negative(g: Graph, x: Value) -> Value:
    """Return the sign bit, which zero has too."""
    below = g.compare("Less", x, 0)
    if not x.is_float:
        return below
    zero = g.node(
        "And", [g.compare("Equal", x, 0), g.compare("Less", g.unary("Reciprocal", x), 0)], x.shape, "bool"
    )
    return g.node("Or", [below, zero], x.shape, "bool")


def _copysign(g: Graph, a: Arguments) -> Value:
    x, sign = floated(g, a["self"]), a["other"]
    if not isinstance(sign, Value):
        sign = g.constant(sign, "float32")
    size = g.unary("Abs", x)
    return g.where(_is_negative(g, floated(g, sign)), g.unary("Neg", size), size)


def _square(g: Graph, a: Arguments) -> Value:
    x = a.tensor("self")
    if x.dtype == "bool":
        raise CannotEmit("squares of bools")
    return g.mul(x, x)


def _fraction(g: Graph, a: Arguments) -> Value:
    x = a.tensor("self")
    return g.sub(x, truncated(g, x))


def _round(g: Graph, a: Arguments) -> Value:
    if a.get("decimals", 0):
        raise CannotEmit("rounding to decimals")
    return _kept_value(g, "Round", a.tensor("self"))


EMITTERS: dict[str, Emitter] = {
    "add": _add,
    "sub": _subtract,
    "subtract": _subtract,
    "rsub": _subtract_reversed,
    **dict.fromkeys(("mul", "multiply"), _multiply),
    **dict.fromkeys(("div", "divide", "true_divide"), _divide),
    "floor_divide": _floor_divide,
    "remainder": _remainder,
    "fmod": _fmod,
    "pow": _power,
    "lerp": _lerp,
    "addcmul": _add_of("Mul"),
    "addcdiv": _add_of("Div"),
    **dict.fromkeys(("neg", "negative"), _plain("Neg")),
    **dict.fromkeys(("abs", "absolute"), _plain("Abs")),
    **dict.fromkeys(("sign", "sgn"), _sign),
    "square": _square,
    "frac": _fraction,
    **dict.fromkeys(("trunc", "fix"), lambda g, a: truncated(g, a.tensor("self"))),
    "floor": _kept("Floor"),
    "ceil": _kept("Ceil"),
    "round": _round,
    "heaviside": _heaviside,
    "signbit": lambda g, a: _is_negative(g, a.tensor("self")),
    "copysign": _copysign,
}
