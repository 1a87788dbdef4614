"""Padding: constant, reflecting, replicating, circular; negative padding crops."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from edgeflow.graph.ir import Array
from edgeflow.graph.onnx_.node import Node, as_ints, onnx_op

#: ONNX's mode -> torch's and numpy's.
_MODES = {"reflect": ("reflect", "reflect"), "edge": ("replicate", "edge"), "wrap": ("circular", "wrap")}


@onnx_op("Pad")
def pad_by_attributes(node: Node, x: Tensor) -> Tensor:
    pads = node.integers("pads" if node.opset >= 2 else "paddings")
    return _padded(node, x, pads, tuple(range(x.ndim)), node.real("value", 0.0))


@onnx_op("Pad", since=11, constants="pads value axes")
def pad_by_inputs(
    node: Node, x: Tensor, pads: Array, value: Array | None = None, axes: Array | None = None
) -> Tensor:
    dims = tuple(range(x.ndim)) if axes is None else tuple(dim % x.ndim for dim in as_ints(axes))
    number = 0.0 if value is None or value.size == 0 else value.reshape(-1)[0].item()
    return _padded(node, x, as_ints(pads), dims, number)


def _padded(node: Node, x: Tensor, pads: tuple[int, ...], dims: tuple[int, ...], value: float) -> Tensor:
    if len(pads) != 2 * len(dims):
        raise node.malformed(f"{len(pads)} paddings for {len(dims)} dims")
    around = [(0, 0)] * x.ndim
    for index, dim in enumerate(dims):
        around[dim] = (pads[index], pads[index + len(dims)])
    if not any(any(pair) for pair in around):
        return x
    mode = node.text("mode", "constant")
    if mode == "constant":
        # Leave out leading dims without padding, so that equal paddings give equal calls.
        first = next(dim for dim, pair in enumerate(around) if any(pair))
        return F.pad(x, _flat(around[first:]), value=value)
    if mode not in _MODES:
        raise node.malformed(f"the attribute 'mode' is {mode!r}")
    if mode != "edge" and min(pads) < 0:
        raise node.unsupported(f"mode {mode!r} with the negative padding {pads}")
    if _is_torchs(x, around, mode):
        return F.pad(x, _flat(around[2:]), mode=_MODES[mode][0])
    return _gathered(node, x, around, _MODES[mode][1])


def _flat(around: list[tuple[int, int]]) -> list[int]:
    """Return padding in torch's order: last dim first."""
    return [number for pair in reversed(around) for number in pair]


def _is_torchs(x: Tensor, around: list[tuple[int, int]], mode: str) -> bool:
    """Whether `F.pad` supports it: spatial dims of (N, C, spatial...), no cropping, short reflections."""
    if mode == "wrap" or not 3 <= x.ndim <= 5 or any(any(pair) for pair in around[:2]):
        return False
    is_small = all(max(pair) < size for pair, size in zip(around, x.shape, strict=True))
    return min(min(pair) for pair in around) >= 0 and (mode == "edge" or is_small)


def _gathered(node: Node, x: Tensor, around: list[tuple[int, int]], mode: str) -> Tensor:
    for dim, (before, after) in enumerate(around):
        if before == after == 0:
            continue
        node.check_size([x.shape[dim] + max(before, 0) + max(after, 0)])
        positions = np.pad(np.arange(x.shape[dim]), (max(before, 0), max(after, 0)), mode=mode)  # type: ignore[call-overload]
        positions = positions[max(-before, 0) : len(positions) - max(-after, 0)]
        x = x.index_select(dim, torch.tensor(positions.tolist(), device=x.device))
    return x
