"""Activation functions of single elements."""

from __future__ import annotations

from edgeflow.kernels.onnx_.emit import Arguments, Emitter
from edgeflow.kernels.onnx_.graph import Graph
from edgeflow.kernels.onnx_.ops.bounds import clamp
from edgeflow.kernels.onnx_.ops.real import floated, made_of
from edgeflow.kernels.onnx_.values import Value


def _hardtanh(g: Graph, a: Arguments) -> Value:
    return clamp(g, Arguments({"self": a["self"], "min": a.get("min_val", -1), "max": a.get("max_val", 1)}))


def _relu(g: Graph, a: Arguments) -> Value:
    return g.unary("Relu", a.tensor("self"))


def _relu6(g: Graph, a: Arguments) -> Value:
    return clamp(g, Arguments({"self": a["self"], "min": 0, "max": 6}))


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
    x = floated(g, a["self"])
    return g.mul(x, g.unary("Sigmoid", x))


def _mish(g: Graph, a: Arguments) -> Value:
    x = floated(g, a["self"])
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


def _log_sigmoid(g: Graph, x: Value) -> Value:
    low = g.node("Min", [x, g.constant(0.0, x.dtype)], x.shape, x.dtype)
    return g.sub(low, g.unary("Log", g.add(g.unary("Exp", g.unary("Neg", g.unary("Abs", x))), 1.0)))


EMITTERS: dict[str, Emitter] = {
    "hardtanh": _hardtanh,
    "relu": _relu,
    "relu6": _relu6,
    "leaky_relu": _leaky,
    **dict.fromkeys(("prelu", "_prelu_kernel"), _prelu),
    "gelu": _gelu,
    "silu": _silu,
    "mish": _mish,
    "hardsigmoid": made_of(_hard_sigmoid),
    "hardswish": made_of(_hard_swish),
    **dict.fromkeys(("elu", "selu"), _elu),
    "celu": _celu,
    "softplus": _softplus,
    "hardshrink": _hardshrink,
    "softshrink": _softshrink,
    "threshold": _threshold,
    "log_sigmoid": made_of(_log_sigmoid),
}
