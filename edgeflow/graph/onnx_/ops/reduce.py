"""Reductions over dims. Depending on the opset, the dims are an attribute or an input."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from edgeflow.graph.ir import Array
from edgeflow.graph.onnx_.node import Node, as_ints, onnx_op

Dims = Sequence[int]


def _sum(x: Tensor, dims: Dims) -> Tensor:
    return x.sum(dim=list(dims), keepdim=True, dtype=x.dtype)


def _mean(x: Tensor, dims: Dims) -> Tensor:
    if x.dtype.is_floating_point:
        return x.mean(dim=list(dims), keepdim=True)
    count = 1
    for dim in dims:
        count *= x.shape[dim]
    return torch.div(_sum(x, dims), count, rounding_mode="trunc")


def _max(x: Tensor, dims: Dims) -> Tensor:
    return x.amax(dim=list(dims), keepdim=True)


def _min(x: Tensor, dims: Dims) -> Tensor:
    return x.amin(dim=list(dims), keepdim=True)


def _prod(x: Tensor, dims: Dims) -> Tensor:
    for dim in dims:
        x = x.prod(dim=dim, keepdim=True, dtype=x.dtype)
    return x


_REDUCTIONS: dict[str, Callable[[Tensor, Dims], Tensor]] = {
    "ReduceL1": lambda x, dims: _sum(x.abs(), dims),
    "ReduceL2": lambda x, dims: _sum(x * x, dims).sqrt(),
    "ReduceLogSum": lambda x, dims: _sum(x, dims).log(),
    "ReduceLogSumExp": lambda x, dims: x.logsumexp(dim=list(dims), keepdim=True),
    "ReduceMax": _max,
    "ReduceMean": _mean,
    "ReduceMin": _min,
    "ReduceProd": _prod,
    "ReduceSum": _sum,
    "ReduceSumSquare": lambda x, dims: _sum(x * x, dims),
}


@onnx_op(*_REDUCTIONS, constants="axes")
def reduce(node: Node, x: Tensor, axes: Array | None = None) -> Tensor:
    given = node.integers("axes", ()) if axes is None else as_ints(axes)
    if not given and node.integer("noop_with_empty_axes", 0):
        # No dim is reduced, but the elementwise part (such as a square) still applies.
        dims: list[int] = []
    else:
        dims = sorted({dim % x.ndim for dim in given or range(x.ndim)})
    if not dims:
        return _REDUCTIONS[node.op_type](x.unsqueeze(-1), [x.ndim]).squeeze(-1)
    reduced = _REDUCTIONS[node.op_type](x, dims)
    return reduced if node.integer("keepdims", 1) else reduced.squeeze(dims)


@onnx_op("ArgMax", "ArgMin")
def arg_extreme(node: Node, x: Tensor) -> Tensor:
    dim = node.integer("axis", 0) % x.ndim
    function = torch.argmax if node.op_type == "ArgMax" else torch.argmin
    keepdim = bool(node.integer("keepdims", 1))
    if not node.integer("select_last_index", 0):
        return function(x, dim=dim, keepdim=keepdim)
    return x.shape[dim] - 1 - function(x.flip(dim), dim=dim, keepdim=keepdim)
