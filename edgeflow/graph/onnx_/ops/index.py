"""Operators on positions: gather, scatter, one-hot, cumulative sum, top-k."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from edgeflow.graph.ir import Array
from edgeflow.graph.onnx_.node import Node, as_ints, onnx_op
from edgeflow.graph.onnx_.ops.shape import take


@onnx_op("Gather", if_known="indices")
def gather(node: Node, x: Tensor, indices: Tensor | Array) -> Tensor:
    dim = node.integer("axis", 0) % x.ndim
    size = x.shape[dim]
    if not isinstance(indices, Tensor):
        return _gather_known(node, x, dim, indices)
    if dim == 0 and x.ndim == 2 and node.is_known(0) and x.dtype.is_floating_point:
        # A table of weights. `F.embedding` raises on negative indices, so these are an error, not wrong rows.
        return F.embedding(indices, x)
    flat = _not_negative(indices, size).reshape(-1)
    shape = (*x.shape[:dim], *indices.shape, *x.shape[dim + 1 :])
    return x.index_select(dim, flat).reshape(shape)


def _gather_known(node: Node, x: Tensor, dim: int, indices: Array) -> Tensor:
    """Gather at constant positions: as a slice if they are evenly spaced, since slices can be split."""
    size = x.shape[dim]
    values = as_ints(indices)
    if any(not -size <= value < size for value in values):
        raise node.malformed(f"it gathers {values} of {size} elements")
    values = tuple(value % size for value in values)
    if indices.ndim == 0:
        return x.select(dim, values[0])
    positions = _evenly_spaced(values)
    if positions is not None:
        picked = take(x, dim, positions)
    else:
        picked = x.index_select(dim, torch.tensor(values, dtype=torch.int64, device=x.device))
    if indices.ndim == 1:
        return picked
    return picked.reshape(*x.shape[:dim], *indices.shape, *x.shape[dim + 1 :])


def _evenly_spaced(values: tuple[int, ...]) -> range | None:
    if len(values) < 2:
        return range(values[0], values[0] + 1) if values else None
    step = values[1] - values[0]
    if step == 0:
        return None
    found = range(values[0], values[-1] + (1 if step > 0 else -1), step)
    return found if tuple(found) == values else None


def _not_negative(indices: Tensor, size: int) -> Tensor:
    """Return indices with negative ones, which count from the end, replaced, as most of torch needs."""
    return torch.where(indices < 0, indices + size, indices)


@onnx_op("GatherElements")
def gather_elements(node: Node, x: Tensor, indices: Tensor) -> Tensor:
    dim = node.integer("axis", 0)
    return torch.gather(x, dim, _not_negative(indices, x.shape[dim]).to(torch.int64))


@onnx_op("GatherND")
def gather_nd(node: Node, x: Tensor, indices: Tensor) -> Tensor:
    batch = node.integer("batch_dims", 0)
    rest = indices.ndim - 1
    where = [
        torch.arange(x.shape[dim], device=x.device).reshape([-1 if dim == d else 1 for d in range(rest)])
        for dim in range(batch)
    ]
    where += list(indices.to(torch.int64).unbind(-1))
    return x[tuple(where)]


@onnx_op("ScatterElements", "Scatter")
def scatter_elements(node: Node, x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    dim = node.integer("axis", 0)
    where = _not_negative(indices, x.shape[dim]).to(torch.int64)
    reduction = node.text("reduction", "none")
    if reduction == "none":
        return torch.scatter(x, dim, where, updates)
    names = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}
    if reduction not in names:
        raise node.malformed(f"the attribute 'reduction' is {reduction!r}")
    return torch.scatter_reduce(x, dim, where, updates, names[reduction])


@onnx_op("ScatterND")
def scatter_nd(node: Node, x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    reduction = node.text("reduction", "none")
    if reduction not in ("none", "add"):
        raise node.unsupported(f"reduction {reduction!r}; supported: 'none', 'add'")
    where = tuple(indices.to(torch.int64).unbind(-1))
    return torch.index_put(x, where, updates, accumulate=reduction == "add")


@onnx_op("Compress", constants="condition")
def compress(node: Node, x: Tensor, condition: Array) -> Tensor:
    picked = torch.tensor(np.flatnonzero(condition).tolist(), dtype=torch.int64, device=x.device)
    if node.has("axis"):
        return x.index_select(node.integer("axis"), picked)
    return x.reshape(-1).index_select(0, picked)


@onnx_op("OneHot", constants="depth")
def one_hot(node: Node, indices: Tensor, depth: Array, values: Tensor) -> Tensor:
    size = int(depth.reshape(-1)[0])
    axis = node.integer("axis", -1) % (indices.ndim + 1)
    shape = [1] * (indices.ndim + 1)
    shape[axis] = size
    positions = torch.arange(size, device=indices.device).reshape(shape)
    is_on = positions == _not_negative(indices.to(torch.int64), size).unsqueeze(axis)
    return torch.where(is_on, values[1], values[0])


@onnx_op("CumSum", constants="axis")
def cumsum(node: Node, x: Tensor, axis: Array) -> Tensor:
    dim = int(axis.reshape(-1)[0]) % x.ndim
    is_reverse = bool(node.integer("reverse", 0))
    x = x.flip(dim) if is_reverse else x
    sums = x.cumsum(dim, dtype=x.dtype)
    if node.integer("exclusive", 0):
        # Shift the sums rather than return `sums - x`, which would lose digits.
        size = x.shape[dim]
        sums = torch.cat([torch.zeros_like(take(x, dim, range(1))), take(sums, dim, range(size - 1))], dim)
    return sums.flip(dim) if is_reverse else sums


@onnx_op("TopK", constants="k")
def top_k(node: Node, x: Tensor, k: Array | None = None) -> tuple[Tensor, Tensor]:
    count = node.integer("k") if k is None else int(k.reshape(-1)[0])
    dim = node.integer("axis", -1) % x.ndim
    if not 0 < count <= x.shape[dim]:
        raise node.malformed(f"the {count} largest of {x.shape[dim]} elements")
    # A stable sort: the first of equal elements comes first, which `torch.topk` does not guarantee.
    values, positions = torch.sort(x, dim=dim, descending=bool(node.integer("largest", 1)), stable=True)
    return take(values, dim, range(count)), take(positions, dim, range(count))
