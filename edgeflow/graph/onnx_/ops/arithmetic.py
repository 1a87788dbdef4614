"""Elementwise arithmetic, comparison, logic and casts."""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from edgeflow.graph.ir import Array
from edgeflow.graph.onnx_.node import Node, onnx_op
from edgeflow.graph.onnx_.read import dtype_of

_UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    "Abs": torch.abs,
    "Acos": torch.acos,
    "Acosh": torch.acosh,
    "Asin": torch.asin,
    "Asinh": torch.asinh,
    "Atan": torch.atan,
    "Atanh": torch.atanh,
    "BitwiseNot": torch.bitwise_not,
    "Ceil": torch.ceil,
    "Cos": torch.cos,
    "Cosh": torch.cosh,
    "Erf": torch.erf,
    "Exp": torch.exp,
    "Floor": torch.floor,
    "IsNaN": torch.isnan,
    "Log": torch.log,
    "Neg": torch.neg,
    "Not": torch.logical_not,
    "Reciprocal": torch.reciprocal,
    "Relu": torch.relu,
    "Round": torch.round,
    "Sigmoid": torch.sigmoid,
    "Sign": torch.sign,
    "Sin": torch.sin,
    "Sinh": torch.sinh,
    "Sqrt": torch.sqrt,
    "Tan": torch.tan,
    "Tanh": torch.tanh,
}

_BINARY: dict[str, Callable[[Any, Any], Tensor]] = {
    "Add": torch.add,
    "And": torch.logical_and,
    "BitwiseAnd": torch.bitwise_and,
    "BitwiseOr": torch.bitwise_or,
    "BitwiseXor": torch.bitwise_xor,
    "Equal": torch.eq,
    "Greater": torch.gt,
    "GreaterOrEqual": torch.ge,
    "Less": torch.lt,
    "LessOrEqual": torch.le,
    "Mul": torch.mul,
    "Or": torch.logical_or,
    "Sub": torch.sub,
    "Xor": torch.logical_xor,
}


@onnx_op(*_UNARY)
def unary(node: Node, x: Tensor) -> Tensor:
    return _UNARY[node.op_type](x)


@onnx_op(*_BINARY)
def binary(node: Node, a: Tensor, b: Tensor) -> Tensor:
    return _BINARY[node.op_type](a, _aligned(node, a, b))


@onnx_op("Div")
def div(node: Node, a: Tensor, b: Tensor) -> Tensor:
    b = _aligned(node, a, b)
    if a.dtype.is_floating_point:
        return torch.div(a, b)
    return torch.div(a, b, rounding_mode="trunc")  # integer division truncates, as in C


@onnx_op("Mod")
def mod(node: Node, a: Tensor, b: Tensor) -> Tensor:
    return torch.fmod(a, b) if node.integer("fmod", 0) else torch.remainder(a, b)


@onnx_op("Pow", if_known="exponent")
def power(node: Node, base: Tensor, exponent: Tensor | Array) -> Tensor:
    if isinstance(exponent, Tensor):
        raised = torch.pow(base, _aligned(node, base, exponent))
    elif exponent.size == 1 and exponent.ndim <= base.ndim:
        raised = torch.pow(base, exponent.reshape(-1)[0].item())
    else:
        raised = torch.pow(base, _aligned(node, base, torch.tensor(exponent.tolist(), device=base.device)))
    return raised.to(base.dtype)


@onnx_op("BitShift")
def bit_shift(node: Node, x: Tensor, y: Tensor) -> Tensor:
    is_left = node.text("direction") == "LEFT"
    return torch.bitwise_left_shift(x, y) if is_left else torch.bitwise_right_shift(x, y)


@onnx_op("Max")
def maximum(node: Node, first: Tensor, *rest: Tensor) -> Tensor:
    return reduce(torch.maximum, rest, first)


@onnx_op("Min")
def minimum(node: Node, first: Tensor, *rest: Tensor) -> Tensor:
    return reduce(torch.minimum, rest, first)


@onnx_op("Sum")
def total(node: Node, first: Tensor, *rest: Tensor) -> Tensor:
    return reduce(operator.add, rest, first)


@onnx_op("Mean")
def mean(node: Node, first: Tensor, *rest: Tensor) -> Tensor:
    return reduce(operator.add, rest, first) / (1 + len(rest))


@onnx_op("Where")
def where(node: Node, condition: Tensor, x: Tensor, y: Tensor) -> Tensor:
    return torch.where(condition, x, y)


@onnx_op("IsInf")
def is_inf(node: Node, x: Tensor) -> Tensor:
    found = torch.isinf(x)
    if not node.integer("detect_negative", 1):
        found = torch.logical_and(found, x > 0)
    if not node.integer("detect_positive", 1):
        found = torch.logical_and(found, x < 0)
    return found


@onnx_op("Identity")
def identity(node: Node, x: Tensor) -> Tensor:
    return x


@onnx_op("Dropout", constants="training")
def dropout(
    node: Node, x: Tensor, ratio: Tensor | None = None, training: Array | None = None
) -> tuple[Tensor, ...]:
    if training is not None and bool(training):
        raise node.unsupported("training_mode is true: it would draw random numbers")
    if not node.wants(1) or node.opset < 12:  # the mask is specified only since opset 12
        return (x,)
    return x, torch.ones_like(x, dtype=torch.bool)


@onnx_op("Cast")
def cast(node: Node, x: Tensor) -> Tensor:
    return x.to(dtype_of(node.integer("to"), node.where))


@onnx_op("CastLike")
def cast_like(node: Node, x: Tensor, target: Tensor) -> Tensor:
    return x.to(target.dtype)


def _aligned(node: Node, a: Tensor, b: Tensor) -> Tensor:
    """Return ``b`` shaped to broadcast with ``a``; before opset 7, ``axis`` may align it."""
    if node.opset >= 7 or not node.integer("broadcast", 0) or not node.has("axis"):
        return b
    axis = node.integer("axis") % a.ndim
    return b.reshape(*b.shape, *[1] * (a.ndim - axis - b.ndim))
