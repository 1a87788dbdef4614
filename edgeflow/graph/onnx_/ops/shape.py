"""Operators that only move elements."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from edgeflow.graph.ir import Array
from edgeflow.graph.onnx_.node import Node, as_ints, onnx_op


@onnx_op("Reshape", constants="shape")
def reshape(node: Node, x: Tensor, shape: Array | None = None) -> Tensor:
    wanted = node.integers("shape") if shape is None else as_ints(shape)
    if not node.integer("allowzero", 0):
        if any(size == 0 and dim >= x.ndim for dim, size in enumerate(wanted)):
            raise node.malformed(f"the shape {wanted} copies a dim that an input of {x.ndim} dims lacks")
        wanted = tuple(x.shape[dim] if size == 0 else size for dim, size in enumerate(wanted))
    return x.reshape(wanted)


@onnx_op("Flatten")
def flatten(node: Node, x: Tensor) -> Tensor:
    axis = node.integer("axis", 1)
    axis = axis + x.ndim if axis < 0 else axis
    return x.reshape(math.prod(x.shape[:axis]), -1)


@onnx_op("Transpose")
def transpose(node: Node, x: Tensor) -> Tensor:
    return x.permute(node.integers("perm", tuple(reversed(range(x.ndim)))))


@onnx_op("Squeeze", constants="axes")
def squeeze(node: Node, x: Tensor, axes: Array | None = None) -> Tensor:
    if axes is None and not node.has("axes"):
        dims = [dim for dim, size in enumerate(x.shape) if size == 1]
    else:
        dims = [dim % x.ndim for dim in (node.integers("axes") if axes is None else as_ints(axes))]
    if any(x.shape[dim] != 1 for dim in dims):
        raise node.malformed(f"it takes dims {dims} of 1 element out of the shape {tuple(x.shape)}")
    return x.squeeze(dims) if dims else x


@onnx_op("Unsqueeze", constants="axes")
def unsqueeze(node: Node, x: Tensor, axes: Array | None = None) -> Tensor:
    given = node.integers("axes") if axes is None else as_ints(axes)
    ndim = x.ndim + len(given)
    for dim in sorted(dim % ndim for dim in given):
        x = x.unsqueeze(dim)
    return x


@onnx_op("Expand", constants="shape")
def expand(node: Node, x: Tensor, shape: Array) -> Tensor:
    return x.expand(np.broadcast_shapes(x.shape, as_ints(shape)))


@onnx_op("Tile", since=6, constants="repeats")
def tile(node: Node, x: Tensor, repeats: Array) -> Tensor:
    return x.repeat(as_ints(repeats))


@onnx_op("Concat")
def concat(node: Node, *tensors: Tensor) -> Tensor:
    axis = node.integer("axis", 1 if node.opset < 4 else None)
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors, dim=axis)


@onnx_op("Split", constants="split")
def split(node: Node, x: Tensor, split: Array | None = None) -> tuple[Tensor, ...]:
    dim = node.integer("axis", 0) % x.ndim
    sizes = node.integers("split", ()) if split is None else as_ints(split)
    if not sizes:
        count = len(node.outputs)
        if node.integer("num_outputs", count) != count:
            raise node.malformed(f"num_outputs is {node.integer('num_outputs')}, of {count} outputs")
        each = -(-x.shape[dim] // count)
        sizes = tuple(min(each, x.shape[dim] - each * index) for index in range(count))
    if min(sizes) < 0 or sum(sizes) != x.shape[dim]:
        raise node.malformed(f"it splits {x.shape[dim]} elements of dim {dim} as {sizes}")
    return tuple(torch.split(x, list(sizes), dim=dim))


@onnx_op("Slice")
def slice_by_attributes(node: Node, x: Tensor) -> Tensor:
    starts, ends = node.integers("starts"), node.integers("ends")
    axes = node.integers("axes", tuple(range(len(starts))))
    return _sliced(node, x, starts, ends, axes, (1,) * len(starts))


@onnx_op("Slice", since=10, constants="starts ends axes steps")
def slice_by_inputs(
    node: Node,
    x: Tensor,
    starts: Array,
    ends: Array,
    axes: Array | None = None,
    steps: Array | None = None,
) -> Tensor:
    count = starts.size
    dims = tuple(range(count)) if axes is None else as_ints(axes)
    strides = (1,) * count if steps is None else as_ints(steps)
    return _sliced(node, x, as_ints(starts), as_ints(ends), dims, strides)


def _sliced(
    node: Node,
    x: Tensor,
    starts: Sequence[int],
    ends: Sequence[int],
    axes: Sequence[int],
    steps: Sequence[int],
) -> Tensor:
    if not len(starts) == len(ends) == len(axes) == len(steps):
        raise node.malformed(f"{len(starts)} starts, {len(ends)} ends, {len(axes)} axes, {len(steps)} steps")
    if 0 in steps:
        raise node.malformed("a step of 0")
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        x = take(x, axis % x.ndim, range(*slice(start, end, step).indices(x.shape[axis])))
    return x


def take(x: Tensor, dim: int, positions: range) -> Tensor:
    """Return the elements of a dim at evenly spaced positions; the step may be negative."""
    if positions.step < 0:
        # torch has no negative steps: take the same elements forwards, then flip.
        return take(x, dim, positions[::-1]).flip(dim)
    if positions == range(x.shape[dim]):
        return x
    where = [slice(None)] * dim + [slice(positions.start, positions.stop, positions.step)]
    return x[tuple(where)]


@onnx_op("DepthToSpace")
def depth_to_space(node: Node, x: Tensor) -> Tensor:
    size = node.integer("blocksize")
    n, c, h, w = x.shape
    match node.text("mode", "DCR"):
        case "CRD":
            return torch.pixel_shuffle(x, size)
        case "DCR":
            blocks = x.reshape(n, size, size, c // size**2, h, w).permute(0, 3, 4, 1, 5, 2)
            return blocks.reshape(n, c // size**2, h * size, w * size)
    raise node.malformed(f"the attribute 'mode' is {node.text('mode')!r}")


@onnx_op("SpaceToDepth")
def space_to_depth(node: Node, x: Tensor) -> Tensor:
    size = node.integer("blocksize")
    n, c, h, w = x.shape
    match node.text("mode", "DCR"):
        case "CRD":
            return torch.pixel_unshuffle(x, size)
        case "DCR":
            blocks = x.reshape(n, c, h // size, size, w // size, size).permute(0, 3, 5, 1, 2, 4)
            return blocks.reshape(n, c * size**2, h // size, w // size)
    raise node.malformed(f"the attribute 'mode' is {node.text('mode')!r}")


@onnx_op("Trilu", constants="k")
def trilu(node: Node, x: Tensor, k: Array | None = None) -> Tensor:
    diagonal = 0 if k is None else int(k.reshape(-1)[0])
    return torch.triu(x, diagonal) if node.integer("upper", 1) else torch.tril(x, diagonal)
