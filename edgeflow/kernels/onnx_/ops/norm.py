"""Norms and softmax: statistics over dims that are not cut."""

from __future__ import annotations

import math

import numpy as np

from edgeflow.graph.ir import NUMPY_DTYPES
from edgeflow.kernels.onnx_.emit import Arguments, Emitter
from edgeflow.kernels.onnx_.graph import Graph
from edgeflow.kernels.onnx_.values import CannotEmit, Value, dim_of


def _layer_norm(g: Graph, a: Arguments) -> Value:
    x = a.tensor("input")
    weight, bias = a.optional("weight"), a.optional("bias")
    size = a.ints("normalized_shape")
    if weight is None:
        weight = g.constant(np.ones(size), x.dtype)
    return g.node(
        "LayerNormalization",
        [x, weight, bias],
        x.shape,
        x.dtype,
        axis=x.ndim - len(size),
        epsilon=float(a.get("eps", 1e-5)),
    )


def _rms_norm(g: Graph, a: Arguments) -> Value:
    x, weight, eps = a.tensor("input"), a.optional("weight"), a.get("eps")
    dims = range(x.ndim - len(a.ints("normalized_shape")), x.ndim)
    eps = float(np.finfo(NUMPY_DTYPES[x.dtype]).eps) if eps is None else eps
    square = g.reduce("ReduceMean", g.mul(x, x), dims, keep=True)
    made = g.binary("Div", x, g.unary("Sqrt", g.add(square, float(eps))))
    return made if weight is None else g.mul(made, weight)


def _group_norm(g: Graph, a: Arguments) -> Value:
    x, groups = a.tensor("input"), a["num_groups"]
    made = _normalised(g, g.reshape(x, (x.shape[0], groups, -1)), float(a.get("eps", 1e-5)))
    return _affine(g, g.reshape(made, x.shape), a.optional("weight"), a.optional("bias"))


def _instance_norm(g: Graph, a: Arguments) -> Value:
    x = a.tensor("input")
    if not a.get("use_input_stats", True):
        raise CannotEmit("instance norm by running statistics")
    made = _normalised(g, g.reshape(x, (*x.shape[:2], -1)), float(a.get("eps", 1e-5)))
    return _affine(g, g.reshape(made, x.shape), a.optional("weight"), a.optional("bias"))


def _normalised(g: Graph, x_NGL: Value, eps: float) -> Value:
    count = x_NGL.shape[1]
    one, zero = g.constant(np.ones(count), x_NGL.dtype), g.constant(np.zeros(count), x_NGL.dtype)
    return g.node("InstanceNormalization", [x_NGL, one, zero], x_NGL.shape, x_NGL.dtype, epsilon=eps)


def _affine(g: Graph, x: Value, weight: Value | None, bias: Value | None) -> Value:
    """Return one factor and one summand per channel."""
    if weight is not None:
        x = g.mul(x, g.reshape(weight, (-1, *[1] * (x.ndim - 2))))
    if bias is not None:
        x = g.add(x, g.reshape(bias, (-1, *[1] * (x.ndim - 2))))
    return x


def _batch_norm(g: Graph, a: Arguments) -> Value:
    x, mean, variance = a.tensor("input"), a.optional("running_mean"), a.optional("running_var")
    if a.get("training") or mean is None or variance is None:
        raise CannotEmit("batch norm by statistics of the batch")
    channels = x.shape[1]
    weight = a.optional("weight") or g.constant(np.ones(channels), x.dtype)
    bias = a.optional("bias") or g.constant(np.zeros(channels), x.dtype)
    return g.node(
        "BatchNormalization", [x, weight, bias, mean, variance], x.shape, x.dtype, epsilon=float(a["eps"])
    )


def _softmax(op: str) -> Emitter:
    def emit(g: Graph, a: Arguments) -> Value:
        x = a.tensor("self")
        dtype = a.dtype()
        if dtype is not None:
            x = g.cast(x, dtype)
        if not x.is_float:
            raise CannotEmit("a softmax of integers")
        made = g.reshape(x, x.shape or (1,))
        made = g.node(op, [made], made.shape, x.dtype, axis=dim_of(a["dim"], made.ndim))
        return g.reshape(made, x.shape)

    return emit


def _vector_norm(g: Graph, a: Arguments) -> Value:
    from edgeflow.kernels.onnx_.ops.reduce import chosen_dims

    x, order = a.tensor("self"), a.get("ord", 2)
    dims, keep = chosen_dims(a, x), bool(a.get("keepdim"))
    dtype = a.dtype()
    if dtype is not None:
        x = g.cast(x, dtype)
    if not x.is_float:
        raise CannotEmit("a norm of integers")
    size = g.unary("Abs", x)
    if order == math.inf:
        return g.reduce("ReduceMax", size, dims, keep=keep)
    if order == -math.inf:
        return g.reduce("ReduceMin", size, dims, keep=keep)
    if order == 0:
        count = g.cast(g.unary("Not", g.compare("Equal", x, 0.0)), x.dtype)
        return g.reduce("ReduceSum", count, dims, keep=keep)
    if order == 1:
        return g.reduce("ReduceSum", size, dims, keep=keep)
    if order == 2:
        return g.unary("Sqrt", g.reduce("ReduceSum", g.mul(x, x), dims, keep=keep))
    total = g.reduce("ReduceSum", g.binary("Pow", size, float(order)), dims, keep=keep)
    return g.binary("Pow", total, 1 / float(order))


EMITTERS = {
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
    "group_norm": _group_norm,
    "instance_norm": _instance_norm,
    "batch_norm": _batch_norm,
    **dict.fromkeys(("softmax.int", "_softmax"), _softmax("Softmax")),
    **dict.fromkeys(("log_softmax.int", "_log_softmax"), _softmax("LogSoftmax")),
    "linalg_vector_norm": _vector_norm,
}
