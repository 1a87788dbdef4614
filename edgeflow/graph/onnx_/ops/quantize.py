"""Quantised operators with exact integer results, computed with torch's float arithmetic.

Integer products are summed in double precision, which represents every int32 sum exactly.
"""

from __future__ import annotations

import torch
from torch import Tensor

from edgeflow.graph.onnx_.node import Node, onnx_op
from edgeflow.graph.onnx_.ops.conv import conv
from edgeflow.graph.onnx_.read import dtype_of


@onnx_op("QuantizeLinear", since=10)
def quantize(node: Node, x: Tensor, scale: Tensor, zero_point: Tensor | None = None) -> Tensor:
    _refuse_blocks(node)
    dtype = torch.uint8 if zero_point is None else zero_point.dtype
    if zero_point is None and node.integer("output_dtype", 0):
        dtype = dtype_of(node.integer("output_dtype"), node.where)
    if node.integer("precision", 0) and dtype_of(node.integer("precision"), node.where) != scale.dtype:
        raise node.unsupported(f"a division in another precision than {scale.dtype}")
    axis = node.integer("axis", 1)
    quotient = x.to(scale.dtype) / _along(scale, x, axis)
    return _rounded(quotient, None if zero_point is None else _along(zero_point, x, axis), dtype)


@onnx_op("DequantizeLinear", since=10)
def dequantize(node: Node, x: Tensor, scale: Tensor, zero_point: Tensor | None = None) -> Tensor:
    _refuse_blocks(node)
    axis = node.integer("axis", 1)
    values = x.to(torch.int32)
    if zero_point is not None:
        values = values - _along(zero_point, x, axis).to(torch.int32)
    y = values.to(scale.dtype) * _along(scale, x, axis)
    code = node.integer("output_dtype", 0)
    return y.to(dtype_of(code, node.where)) if code else y


@onnx_op("DynamicQuantizeLinear", since=11)
def dynamic_quantize(node: Node, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    low, high = torch.clamp(x.amin(), max=0.0), torch.clamp(x.amax(), min=0.0)
    scale = (high - low) / 255.0
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    zero_point = _rounded(-low / scale, None, torch.uint8)
    return _rounded(x / scale, zero_point, torch.uint8), scale, zero_point


@onnx_op("MatMulInteger", since=10)
def matmul_integer(
    node: Node, a: Tensor, b: Tensor, a_zero: Tensor | None = None, b_zero: Tensor | None = None
) -> Tensor:
    # Zero points are per row of `a` or per column of `b`.
    a_zero = a_zero.unsqueeze(-1) if a_zero is not None and a_zero.ndim == 1 and a.ndim > 1 else a_zero
    return torch.matmul(_centred(a, a_zero), _centred(b, b_zero)).to(torch.int32)


@onnx_op("ConvInteger", since=10)
def conv_integer(
    node: Node, x: Tensor, w: Tensor, x_zero: Tensor | None = None, w_zero: Tensor | None = None
) -> Tensor:
    return _conv(node, _centred(x, x_zero), _centred(w, w_zero, dim=0)).to(torch.int32)


@onnx_op("QLinearMatMul", since=10)
def qlinear_matmul(
    node: Node,
    a: Tensor,
    a_scale: Tensor,
    a_zero: Tensor,
    b: Tensor,
    b_scale: Tensor,
    b_zero: Tensor,
    y_scale: Tensor,
    y_zero: Tensor,
) -> Tensor:
    if max(part.numel() for part in (a_scale, a_zero, y_scale, y_zero)) > 1:
        raise node.unsupported("a scale or zero point per row")
    total = torch.matmul(_centred(a, a_zero), _centred(b, b_zero))
    return _rounded(total.to(torch.float32) * (a_scale * b_scale / y_scale), y_zero, y_zero.dtype)


@onnx_op("QLinearConv", since=10)
def qlinear_conv(
    node: Node,
    x: Tensor,
    x_scale: Tensor,
    x_zero: Tensor,
    w: Tensor,
    w_scale: Tensor,
    w_zero: Tensor,
    y_scale: Tensor,
    y_zero: Tensor,
    b: Tensor | None = None,
) -> Tensor:
    total = _conv(node, _centred(x, x_zero), _centred(w, w_zero, dim=0))
    if b is not None:
        total = total + b.to(total.dtype).reshape(-1, *[1] * (x.ndim - 2))
    factor = x_scale * w_scale / y_scale
    if factor.numel() > 1:
        factor = factor.reshape(-1, *[1] * (x.ndim - 2))
    return _rounded(total.to(torch.float32) * factor, y_zero, y_zero.dtype)


def _conv(node: Node, x: Tensor, w: Tensor) -> Tensor:
    result = conv(node, x, w)
    assert isinstance(result, Tensor)
    return result


def _refuse_blocks(node: Node) -> None:
    if node.integer("block_size", 0):
        raise node.unsupported(f"block_size={node.integer('block_size')}")


def _along(value: Tensor, x: Tensor, axis: int) -> Tensor:
    """Return a scale or zero point shaped to broadcast over ``x`` along ``axis``; one number becomes 0-d."""
    if value.numel() == 1:
        return value.reshape(())
    shape = [1] * x.ndim
    shape[axis] = -1
    return value.reshape(shape)


def _rounded(x: Tensor, zero_point: Tensor | None, dtype: torch.dtype) -> Tensor:
    """Round half to even, add the zero point, and saturate to the range of the dtype."""
    limits = torch.iinfo(dtype)
    rounded = torch.round(x)
    if zero_point is not None:
        rounded = rounded + zero_point.to(x.dtype)
    return torch.clamp(rounded, limits.min, limits.max).to(dtype)


def _centred(x: Tensor, zero_point: Tensor | None, dim: int | None = None) -> Tensor:
    x = x.to(torch.float64)
    if zero_point is None:
        return x
    return x - (zero_point if dim is None else _along(zero_point, x, dim)).to(torch.float64)
