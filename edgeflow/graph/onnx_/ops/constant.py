"""Constants, shapes and ranges: results that do not depend on the values of a request."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from edgeflow.graph.ir import Array
from edgeflow.graph.onnx_.node import Node, as_ints, onnx_op
from edgeflow.graph.onnx_.read import dtype_of
from edgeflow.graph.structure import to_torch


@onnx_op("Constant")
def constant(node: Node) -> Tensor:
    match sorted(node.attributes):
        case ["value"]:
            return node.tensor("value")
        case ["value_float"]:
            return torch.tensor(node.real("value_float"), dtype=torch.float32)
        case ["value_floats"]:
            return torch.tensor(node.reals("value_floats"), dtype=torch.float32)
        case ["value_int"]:
            return torch.tensor(node.integer("value_int"), dtype=torch.int64)
        case ["value_ints"]:
            return torch.tensor(node.integers("value_ints"), dtype=torch.int64)
    raise node.unsupported(f"a constant given by {', '.join(sorted(node.attributes)) or 'nothing'}")


@onnx_op("Shape")
def shape(node: Node, x: Tensor) -> Tensor:
    stop = node.integer("end") if node.has("end") else None
    return torch.tensor(x.shape[node.integer("start", 0) : stop], dtype=torch.int64)


@onnx_op("Size")
def size(node: Node, x: Tensor) -> Tensor:
    return torch.tensor(x.numel(), dtype=torch.int64)


@onnx_op("ConstantOfShape", constants="shape")
def constant_of_shape(node: Node, shape: Array) -> Tensor:
    value = node.tensor("value", torch.zeros(1))
    node.check_size(as_ints(shape))
    return value.reshape(()).expand(as_ints(shape)).clone()


@onnx_op("Range", constants="start limit delta")
def arange(node: Node, start: Array, limit: Array, delta: Array) -> Tensor:
    step = delta.item()
    if step == 0:
        raise node.malformed("a step of 0")
    node.check_size([max(0, math.ceil((limit.item() - start.item()) / step))])
    return torch.arange(start.item(), limit.item(), step, dtype=to_torch(start).dtype)


@onnx_op("EyeLike")
def eye_like(node: Node, x: Tensor) -> Tensor:
    rows, columns = x.shape
    node.check_size((rows, columns))
    dtype = dtype_of(node.integer("dtype"), node.where) if node.has("dtype") else x.dtype
    offset = node.integer("k", 0)
    return (torch.arange(columns) - torch.arange(rows)[:, None] == offset).to(dtype)


@onnx_op("NonZero", constants="x")
def nonzero(node: Node, x: Array) -> Tensor:
    values: Tensor = to_torch(x)
    return values.reshape(x.shape or (1,)).nonzero().t().contiguous()
