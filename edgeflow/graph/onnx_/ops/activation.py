"""Activation functions and softmax."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from edgeflow.graph.ir import Array
from edgeflow.graph.onnx_.node import Node, onnx_op


@onnx_op("LeakyRelu")
def leaky_relu(node: Node, x: Tensor) -> Tensor:
    return F.leaky_relu(x, node.real("alpha", 0.01))


@onnx_op("PRelu")
def prelu(node: Node, x: Tensor, slope: Tensor) -> Tensor:
    if node.opset < 7 and slope.ndim == 1 and slope.shape[0] > 1:
        slope = slope.reshape(-1, *[1] * (x.ndim - 2))  # one per channel
    return torch.where(x < 0, slope * x, x)


@onnx_op("ThresholdedRelu")
def thresholded_relu(node: Node, x: Tensor) -> Tensor:
    return F.threshold(x, node.real("alpha", 1.0), 0.0)


@onnx_op("Clip", if_known="low high")
def clip(
    node: Node, x: Tensor, low: Tensor | Array | None = None, high: Tensor | Array | None = None
) -> Tensor:
    if node.opset < 11:
        limits: list[float | int | None] = [
            node.real(key) if node.has(key) else None for key in ("min", "max")
        ]
    elif isinstance(low, Tensor) or isinstance(high, Tensor):
        for limit, bound in ((low, torch.maximum), (high, torch.minimum)):
            if limit is not None:
                x = bound(x, torch.as_tensor(limit, dtype=x.dtype, device=x.device))
        return x
    else:
        limits = [None if limit is None else limit.reshape(-1)[0].item() for limit in (low, high)]
    return x if limits == [None, None] else torch.clamp(x, *limits)


@onnx_op("Elu")
def elu(node: Node, x: Tensor) -> Tensor:
    return F.elu(x, node.real("alpha", 1.0))


@onnx_op("Celu")
def celu(node: Node, x: Tensor) -> Tensor:
    return F.celu(x, node.real("alpha", 1.0))


@onnx_op("Selu")
def selu(node: Node, x: Tensor) -> Tensor:
    alpha, gamma = node.real("alpha", 1.6732632423543772), node.real("gamma", 1.0507009873554805)
    return gamma * F.elu(x, alpha)


@onnx_op("HardSigmoid")
def hard_sigmoid(node: Node, x: Tensor) -> Tensor:
    alpha, beta = node.real("alpha", 0.2), node.real("beta", 0.5)
    if math.isclose(alpha, 1 / 6, rel_tol=1e-6) and beta == 0.5:
        return F.hardsigmoid(x)
    return torch.clamp(x * alpha + beta, 0.0, 1.0)


@onnx_op("HardSwish")
def hard_swish(node: Node, x: Tensor) -> Tensor:
    return F.hardswish(x)


@onnx_op("Swish")
def swish(node: Node, x: Tensor) -> Tensor:
    alpha = node.real("alpha", 1.0)
    return F.silu(x) if alpha == 1.0 else x * torch.sigmoid(x * alpha)


@onnx_op("Mish")
def mish(node: Node, x: Tensor) -> Tensor:
    return F.mish(x)


@onnx_op("Gelu")
def gelu(node: Node, x: Tensor) -> Tensor:
    return F.gelu(x, approximate=node.text("approximate", "none"))


@onnx_op("Softplus")
def softplus(node: Node, x: Tensor) -> Tensor:
    return F.softplus(x)


@onnx_op("Softsign")
def softsign(node: Node, x: Tensor) -> Tensor:
    return x / (1 + x.abs())


@onnx_op("Shrink")
def shrink(node: Node, x: Tensor) -> Tensor:
    bias, limit = node.real("bias", 0.0), node.real("lambd", 0.5)
    zero = torch.zeros_like(x)
    return torch.where(x < -limit, x + bias, torch.where(x > limit, x - bias, zero))


@onnx_op("Softmax", since=13)
def softmax(node: Node, x: Tensor) -> Tensor:
    return F.softmax(x, dim=node.integer("axis", -1))


@onnx_op("LogSoftmax", since=13)
def log_softmax(node: Node, x: Tensor) -> Tensor:
    return F.log_softmax(x, dim=node.integer("axis", -1))


@onnx_op("Hardmax", since=13)
def hardmax(node: Node, x: Tensor) -> Tensor:
    return _one_hot_of_largest(x, node.integer("axis", -1))


@onnx_op("Softmax")
def softmax_of_matrix(node: Node, x: Tensor) -> Tensor:
    return _as_matrix(node, x, lambda matrix, dim: F.softmax(matrix, dim=dim))


@onnx_op("LogSoftmax")
def log_softmax_of_matrix(node: Node, x: Tensor) -> Tensor:
    return _as_matrix(node, x, lambda matrix, dim: F.log_softmax(matrix, dim=dim))


@onnx_op("Hardmax")
def hardmax_of_matrix(node: Node, x: Tensor) -> Tensor:
    return _as_matrix(node, x, _one_hot_of_largest)


def _as_matrix(node: Node, x: Tensor, function: Callable[[Tensor, int], Tensor]) -> Tensor:
    """Apply a function over all dims from ``axis`` on, flattened: the semantics before opset 13."""
    axis = node.integer("axis", 1) % x.ndim
    if math.prod(x.shape[axis + 1 :]) == 1:
        return function(x, axis)
    return function(x.reshape(*x.shape[:axis], -1), axis).reshape(x.shape)


def _one_hot_of_largest(x: Tensor, dim: int) -> Tensor:
    index = x.argmax(dim=dim, keepdim=True)
    shape = [1] * x.ndim
    shape[dim] = x.shape[dim]
    positions = torch.arange(x.shape[dim], device=x.device).reshape(shape)
    return (positions == index).to(x.dtype)
