"""Each element from the elements at the same place, with broadcasting and torch's rules of dtypes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from edgeflow.runtime.executor.onnx_.emit import Arguments, Emitter
from edgeflow.runtime.executor.onnx_.graph import Graph
from edgeflow.runtime.executor.onnx_.values import (
    FLOATS,
    CannotEmit,
    Dtype,
    Operand,
    Value,
    broadcast_shapes,
    result_dtype,
)


def _floated(g: Graph, x: Operand) -> Value:
    """Integers become floats of 32 bits, as they do in torch's functions of real numbers."""
    if isinstance(x, Value):
        return x if x.is_float else g.cast(x, "float32")
    return g.constant(x, "float32")


def _real(op: str) -> Emitter:
    return lambda g, a: g.unary(op, _floated(g, a["self"]))


def _made_of(make: Callable[[Graph, Value], Value]) -> Emitter:
    """A function of one real number, said in others."""
    return lambda g, a: make(g, _floated(g, a["self"]))


def _kept(op: str) -> Emitter:
    """A function that leaves integers as they are."""
    return lambda g, a: _kept_value(g, op, a.tensor("self"))


def _kept_value(g: Graph, op: str, x: Value) -> Value:
    return g.unary(op, x) if x.is_float else x


def _plain(op: str) -> Emitter:
    return lambda g, a: g.unary(op, a.tensor("self"))


def _binary(op: str) -> Emitter:
    return lambda g, a: g.binary(op, a["self"], a["other"])


def _compare(op: str) -> Emitter:
    return lambda g, a: g.compare(op, a["self"], a["other"])


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
    return _truncated(g, quotient) if mode == "trunc" else quotient


def _floor_divide(g: Graph, a: Arguments) -> Value:
    x, y = a["self"], a["other"]
    dtype = result_dtype(x, y)
    if dtype in FLOATS:
        return _floor_quotient(g, x, y, dtype)
    return _integer_quotient(g, x, y, dtype, floor=True)


def _integer_quotient(g: Graph, x: Operand, y: Operand, dtype: str, *, floor: bool) -> Value:
    """ONNX rounds quotients of integers towards zero."""
    if dtype == "bool":
        raise CannotEmit("a quotient of bools")
    quotient = g.binary("Div", x, y, dtype=dtype)
    if not floor:
        return quotient
    rest = g.sub(g.of(x, dtype), g.mul(quotient, g.of(y, dtype)))
    zero = g.constant(0, dtype)
    is_below = g.node(
        "And",
        [
            g.unary("Not", g.compare("Equal", rest, zero)),
            g.node(
                "Xor",
                [g.compare("Less", rest, zero), g.compare("Less", g.of(y, dtype), zero)],
                quotient.shape,
                "bool",
            ),
        ],
        quotient.shape,
        "bool",
    )
    return g.sub(quotient, g.cast(is_below, dtype))


def _floor_quotient(g: Graph, x: Operand, y: Operand, dtype: str) -> Value:
    """Python's floor division of floats: by the remainder, which is exact, not by the rounded quotient."""
    top, bottom = g.of(x, dtype), g.of(y, dtype)
    rest = g.node("Mod", [top, bottom], broadcast_shapes(top.shape, bottom.shape), dtype, fmod=1)
    quotient = g.binary("Div", g.sub(top, rest), bottom)
    zero = g.constant(0, dtype)
    has_rest = g.unary("Not", g.compare("Equal", rest, zero))
    differs = g.node(
        "Xor", [g.compare("Less", rest, zero), g.compare("Less", bottom, zero)], rest.shape, "bool"
    )
    is_below = g.node("And", [has_rest, differs], rest.shape, "bool")
    lowered = g.sub(quotient, g.cast(is_below, dtype))
    floor = g.unary("Floor", lowered)
    far = g.compare("Greater", g.sub(lowered, floor), 0.5)
    whole = g.add(floor, g.cast(far, dtype))
    infinite = g.binary("Div", top, bottom)
    return g.where(g.compare("Equal", bottom, zero), infinite, whole)


def _remainder(g: Graph, a: Arguments) -> Value:
    """The remainder that has the divisor's sign."""
    x, y = a["self"], a["other"]
    dtype = result_dtype(x, y)
    if dtype == "bool":
        raise CannotEmit("a remainder of bools")
    top, bottom = g.of(x, dtype), g.of(y, dtype)
    shape = broadcast_shapes(top.shape, bottom.shape)
    if dtype not in FLOATS:
        return g.node("Mod", [top, bottom], shape, dtype)
    rest = g.node("Mod", [top, bottom], shape, dtype, fmod=1)
    zero = g.constant(0, dtype)
    has_rest = g.unary("Not", g.compare("Equal", rest, zero))
    differs = g.node("Xor", [g.compare("Less", rest, zero), g.compare("Less", bottom, zero)], shape, "bool")
    return g.where(g.node("And", [has_rest, differs], shape, "bool"), g.add(rest, bottom), rest)


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


def _truncated(g: Graph, x: Value) -> Value:
    if not x.is_float:
        return x
    return g.mul(g.unary("Sign", x), g.unary("Floor", g.unary("Abs", x)))


def _extreme(op: str) -> Emitter:
    """`Max` and `Min` of ONNX; nothing is said there of what is no number, so it is put in."""

    def emit(g: Graph, a: Arguments) -> Value:
        x, y = a["self"], a["other"]
        dtype = result_dtype(x, y)
        if dtype == "bool":
            return g.binary("Or" if op == "Max" else "And", x, y)
        return _bounded(g, op, g.of(x, dtype), g.of(y, dtype))

    return emit


def _bounded(g: Graph, op: str, x: Value, y: Value) -> Value:
    shape = broadcast_shapes(x.shape, y.shape)
    if x.is_float:
        is_above = g.compare("Greater" if op == "Max" else "Less", y, x)
        taken = g.where(is_above, y, x)
        return g.where(g.unary("IsNaN", y, "bool"), y, taken)
    return g.node(op, [x, y], shape, x.dtype)


def _clamp(g: Graph, a: Arguments) -> Value:
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
        made = _bounded(g, "Max", made, g.of(low, dtype))
    if high is not None:
        made = _bounded(g, "Min", made, g.of(high, dtype))
    return made


def _hardtanh(g: Graph, a: Arguments) -> Value:
    return _clamp(g, Arguments({"self": a["self"], "min": a.get("min_val", -1), "max": a.get("max_val", 1)}))


def _relu(g: Graph, a: Arguments) -> Value:
    return g.unary("Relu", a.tensor("self"))


def _relu6(g: Graph, a: Arguments) -> Value:
    return _clamp(g, Arguments({"self": a["self"], "min": 0, "max": 6}))


def _leaky(g: Graph, a: Arguments) -> Value:
    return g.unary("LeakyRelu", a.tensor("self"), alpha=float(a.get("negative_slope", 0.01)))


def _prelu(g: Graph, a: Arguments) -> Value:
    x, weight = a.tensor("self"), a.tensor("weight")
    if x.ndim > 1 and weight.ndim == 1:
        weight = g.reshape(weight, (weight.shape[0], *[1] * (x.ndim - 2)))
    return g.where(g.compare("Greater", x, 0), x, g.mul(weight, x))


def _gelu(g: Graph, a: Arguments) -> Value:
    return g.unary("Gelu", a.tensor("self"), approximate=a.get("approximate", "none"))


def _silu(g: Graph, a: Arguments) -> Value:
    x = _floated(g, a["self"])
    return g.mul(x, g.unary("Sigmoid", x))


def _mish(g: Graph, a: Arguments) -> Value:
    x = _floated(g, a["self"])
    return g.mul(x, g.unary("Tanh", g.unary("Softplus", x)))


def _hard_sigmoid(g: Graph, x: Value) -> Value:
    return g.unary("HardSigmoid", x, alpha=1 / 6, beta=0.5)


def _hard_swish(g: Graph, x: Value) -> Value:
    return g.unary("HardSwish", x)


def _elu(g: Graph, a: Arguments) -> Value:
    x = a.tensor("self")
    alpha, scale, width = (float(a.get(key, 1)) for key in ("alpha", "scale", "input_scale"))
    if width == 1:
        made = g.unary("Elu", x, alpha=alpha)
        return made if scale == 1 else g.mul(made, scale)
    low = g.mul(g.sub(g.unary("Exp", g.mul(x, width)), 1.0), alpha * scale)
    return g.where(g.compare("Greater", x, 0), g.mul(x, scale), low)


def _celu(g: Graph, a: Arguments) -> Value:
    return g.unary("Celu", a.tensor("self"), alpha=float(a.get("alpha", 1.0)))


def _softplus(g: Graph, a: Arguments) -> Value:
    x, beta = a.tensor("self"), float(a.get("beta", 1))
    scaled = x if beta == 1 else g.mul(x, beta)
    soft = g.unary("Softplus", scaled)
    soft = soft if beta == 1 else g.binary("Div", soft, beta)
    return g.where(g.compare("Greater", scaled, float(a.get("threshold", 20))), x, soft)


def _hardshrink(g: Graph, a: Arguments) -> Value:
    x, width = a.tensor("self"), float(a.get("lambd", 0.5))
    inside = g.compare("LessOrEqual", g.unary("Abs", x), width)
    return g.where(inside, g.constant(0, x.dtype), x)


def _softshrink(g: Graph, a: Arguments) -> Value:
    x, width = a.tensor("self"), float(a.get("lambd", 0.5))
    low = g.where(g.compare("Less", x, -width), g.add(x, width), g.mul(x, 0.0))
    return g.where(g.compare("Greater", x, width), g.sub(x, width), low)


def _threshold(g: Graph, a: Arguments) -> Value:
    x = a.tensor("self")
    return g.where(g.compare("LessOrEqual", x, a["threshold"]), g.of(a["value"], x.dtype), x)


def _where(g: Graph, a: Arguments) -> Value:
    return g.where(a.tensor("condition"), a["self"], a["other"])


def _masked_fill(g: Graph, a: Arguments) -> Value:
    x = a.tensor("self")
    value = g.of(a["value"], x.dtype)
    if value.ndim:
        raise CannotEmit("a filling of several numbers")
    return g.where(a.tensor("mask"), value, x)


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
        x = _truncated(g, x)
    return g.cast(x, dtype)


def _type_as(g: Graph, a: Arguments) -> Value:
    return _to(g, Arguments({"self": a["self"], "dtype": Dtype(a.tensor("other").dtype)}))


def _filled(value: float | None) -> Emitter:
    def emit(g: Graph, a: Arguments) -> Value:
        x = a.tensor("self")
        fill = a["value" if "value" in a else "fill_value"] if value is None else value
        return g.expand(g.of(fill, a.dtype() or x.dtype), x.shape)

    return emit


def _sign(g: Graph, a: Arguments) -> Value:
    x = a.tensor("self")
    return x if x.dtype == "bool" else g.unary("Sign", x)


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


def _exp2(g: Graph, x: Value) -> Value:
    return g.binary("Pow", g.constant(2.0, x.dtype), x)


def _log(base: float) -> Callable[[Graph, Value], Value]:
    return lambda g, x: g.mul(g.unary("Log", x), 1 / math.log(base))


def _expm1(g: Graph, x: Value) -> Value:
    """``2 sinh(x/2) exp(x/2)``: the difference itself would lose the small numbers' digits."""
    half = g.mul(x, 0.5)
    return g.mul(g.mul(g.unary("Sinh", half), 2.0), g.unary("Exp", half))


def _log1p(g: Graph, x: Value) -> Value:
    """``2 artanh(x / (x + 2))`` near zero, where the sum would lose the small numbers' digits."""
    small = g.mul(g.unary("Atanh", g.binary("Div", x, g.add(x, 2.0))), 2.0)
    return g.where(g.compare("Less", g.unary("Abs", x), 0.5), small, g.unary("Log", g.add(x, 1.0)))


def _numeric_extreme(op: str) -> Emitter:
    """The extreme of those that are numbers."""

    def emit(g: Graph, a: Arguments) -> Value:
        x, y = a["self"], a["other"]
        dtype = result_dtype(x, y)
        left, right = g.of(x, dtype), g.of(y, dtype)
        if dtype not in FLOATS:
            return (
                g.binary("Or" if op == "Max" else "And", x, y)
                if dtype == "bool"
                else _bounded(g, op, left, right)
            )
        made = g.where(g.unary("IsNaN", left, "bool"), right, _bounded(g, op, left, right))
        return g.where(g.unary("IsNaN", right, "bool"), left, made)

    return emit


def _heaviside(g: Graph, a: Arguments) -> Value:
    x, value = a.tensor("self"), a.tensor("values")
    step = g.cast(g.compare("Greater", x, 0), x.dtype)
    made = g.where(g.compare("Equal", x, 0), value, step)
    return g.where(g.unary("IsNaN", x, "bool"), step, made) if x.is_float else made


def _is_negative(g: Graph, x: Value) -> Value:
    """The sign's bit: zero has one too."""
    below = g.compare("Less", x, 0)
    if not x.is_float:
        return below
    zero = g.node(
        "And", [g.compare("Equal", x, 0), g.compare("Less", g.unary("Reciprocal", x), 0)], x.shape, "bool"
    )
    return g.node("Or", [below, zero], x.shape, "bool")


def _copysign(g: Graph, a: Arguments) -> Value:
    x, sign = _floated(g, a["self"]), a["other"]
    if not isinstance(sign, Value):
        sign = g.constant(sign, "float32")
    size = g.unary("Abs", x)
    return g.where(_is_negative(g, _floated(g, sign)), g.unary("Neg", size), size)


def _log_sigmoid(g: Graph, x: Value) -> Value:
    low = g.node("Min", [x, g.constant(0.0, x.dtype)], x.shape, x.dtype)
    return g.sub(low, g.unary("Log", g.add(g.unary("Exp", g.unary("Neg", g.unary("Abs", x))), 1.0)))


def _log_sum(base: float | None) -> Emitter:
    def emit(g: Graph, a: Arguments) -> Value:
        x, y = _floated(g, a["self"]), _floated(g, a["other"])
        unit = 1.0 if base is None else math.log(base)
        gap = g.unary("Neg", g.unary("Abs", g.sub(x, y)))
        high = _bounded(g, "Max", x, y)
        more = g.unary("Log", g.add(g.unary("Exp", g.mul(gap, unit)), 1.0))
        total = g.add(high, g.mul(more, 1 / unit))
        return g.where(g.compare("Equal", x, y), g.add(x, math.log(2) / unit), total)

    return emit


def _xlogy(g: Graph, a: Arguments) -> Value:
    x, y = _floated(g, a["self"]), _floated(g, a["other"])
    product = g.mul(x, g.unary("Log", y))
    is_zero = g.node(
        "And",
        [g.compare("Equal", x, 0.0), g.unary("Not", g.unary("IsNaN", y, "bool"))],
        product.shape,
        "bool",
    )
    return g.where(is_zero, g.constant(0, product.dtype), product)


def _hypot(g: Graph, a: Arguments) -> Value:
    x, y = _floated(g, a["self"]), _floated(g, a["other"])
    return g.unary("Sqrt", g.add(g.mul(x, x), g.mul(y, y)))


def _degrees(factor: float) -> Callable[[Graph, Value], Value]:
    return lambda g, x: g.mul(x, factor)


def _square(g: Graph, a: Arguments) -> Value:
    x = a.tensor("self")
    if x.dtype == "bool":
        raise CannotEmit("squares of bools")
    return g.mul(x, x)


def _fraction(g: Graph, a: Arguments) -> Value:
    x = a.tensor("self")
    return g.sub(x, _truncated(g, x))


def _round(g: Graph, a: Arguments) -> Value:
    if a.get("decimals", 0):
        raise CannotEmit("rounding to decimals")
    return _kept_value(g, "Round", a.tensor("self"))


def _logical_not(g: Graph, a: Arguments) -> Value:
    return g.unary("Not", g.cast(a.tensor("self"), "bool"))


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
    **dict.fromkeys(("maximum", "max.other"), _extreme("Max")),
    **dict.fromkeys(("minimum", "min.other"), _extreme("Min")),
    **dict.fromkeys(("clamp", "clip", "clamp_min", "clamp_max"), _clamp),
    "hardtanh": _hardtanh,
    "relu": _relu,
    "relu6": _relu6,
    "leaky_relu": _leaky,
    **dict.fromkeys(("prelu", "_prelu_kernel"), _prelu),
    "gelu": _gelu,
    "silu": _silu,
    "mish": _mish,
    "hardsigmoid": _made_of(_hard_sigmoid),
    "hardswish": _made_of(_hard_swish),
    **dict.fromkeys(("elu", "selu"), _elu),
    "celu": _celu,
    "softplus": _softplus,
    "hardshrink": _hardshrink,
    "softshrink": _softshrink,
    "threshold": _threshold,
    "where": _where,
    "masked_fill": _masked_fill,
    "lerp": _lerp,
    "addcmul": _add_of("Mul"),
    "addcdiv": _add_of("Div"),
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
    **dict.fromkeys(("neg", "negative"), _plain("Neg")),
    **dict.fromkeys(("abs", "absolute"), _plain("Abs")),
    **dict.fromkeys(("sign", "sgn"), _sign),
    "square": _square,
    "frac": _fraction,
    **dict.fromkeys(("trunc", "fix"), lambda g, a: _truncated(g, a.tensor("self"))),
    "floor": _kept("Floor"),
    "ceil": _kept("Ceil"),
    "round": _round,
    "isnan": _is_number(lambda g, x: g.unary("IsNaN", x, "bool")),
    "isinf": _is_number(_infinite),
    "isfinite": _is_number(_finite),
    "isposinf": _is_number(lambda g, x: g.unary("IsInf", x, "bool", detect_negative=0)),
    "isneginf": _is_number(lambda g, x: g.unary("IsInf", x, "bool", detect_positive=0)),
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
    "rsqrt": _made_of(lambda g, x: g.unary("Reciprocal", g.unary("Sqrt", x))),
    "erfc": _made_of(lambda g, x: g.sub(1.0, g.unary("Erf", x))),
    "exp2": _made_of(_exp2),
    "expm1": _made_of(_expm1),
    "log2": _made_of(_log(2)),
    "log10": _made_of(_log(10)),
    "log_sigmoid": _made_of(_log_sigmoid),
    "logaddexp": _log_sum(None),
    "logaddexp2": _log_sum(2),
    "log1p": _made_of(_log1p),
    "fmax": _numeric_extreme("Max"),
    "fmin": _numeric_extreme("Min"),
    "heaviside": _heaviside,
    "signbit": lambda g, a: _is_negative(g, a.tensor("self")),
    "copysign": _copysign,
    "xlogy": _xlogy,
    "hypot": _hypot,
    "deg2rad": _made_of(_degrees(math.pi / 180)),
    "rad2deg": _made_of(_degrees(180 / math.pi)),
}
