"""Matrix products."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from edgeflow.graph.onnx_.node import Node, onnx_op


@onnx_op("MatMul")
def matmul(node: Node, a: Tensor, b: Tensor) -> Tensor:
    return product(a, b, is_weight=node.is_known(1))


def product(a: Tensor, b: Tensor, *, is_weight: bool) -> Tensor:
    """Return ``a @ b``; as a linear layer, which can be split in more ways, if ``b`` is a weight matrix."""
    if is_weight and b.ndim == 2 and a.ndim >= 2 and a.dtype.is_floating_point:
        return F.linear(a, b.t())
    return torch.matmul(a, b)


@onnx_op("Gemm")
def gemm(node: Node, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    alpha, beta = node.real("alpha", 1.0), node.real("beta", 1.0)
    if node.integer("transA", 0):
        a = a.t()
    weight = b if node.integer("transB", 0) else b.t()
    if not a.dtype.is_floating_point:
        raise node.unsupported(f"a product of {a.dtype}")
    is_layer = alpha == 1.0 and (c is None or (beta == 1.0 and c.numel() == weight.shape[0]))
    if is_layer and (c is None or c.ndim < 2 or c.shape[0] == 1):
        return F.linear(a, weight, None if c is None else c.reshape(-1))
    y = F.linear(a, weight)
    y = y if alpha == 1.0 else y * alpha
    return y if c is None or beta == 0.0 else y + (c if beta == 1.0 else c * beta)


@onnx_op("Einsum")
def einsum(node: Node, *operands: Tensor) -> Tensor:
    result: Any = torch.einsum(node.text("equation"), *operands)
    assert isinstance(result, Tensor)
    return result
