"""Resize, Upsample and GridSample.

ONNX has some hundred combinations of modes. Those that ``torch.nn.functional.interpolate`` supports use it,
since it can be split. The others are exact as well: nearest-neighbour selects elements, linear and cubic
multiply by a weight matrix per dim.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from edgeflow.graph.ir import Array
from edgeflow.graph.onnx_.node import Node, as_ints, onnx_op

#: Largest size of a resized dim; only a damaged or malicious file asks for more.
_MAX_SIZE = 2**20
_TORCH_LINEAR = {3: "linear", 4: "bilinear", 5: "trilinear"}


def _prefer_floor(x: Array) -> Array:
    return np.where(_is_half(x), np.floor(x), np.floor(x + 0.5))


def _prefer_ceil(x: Array) -> Array:
    return np.where(_is_half(x), np.ceil(x), np.floor(x + 0.5))


def _is_half(x: Array) -> Array:
    """Whether a coordinate is half-way between integers, within the tolerance of ONNX Runtime."""
    return np.asarray(np.abs(x - np.floor(x) - 0.5) < 1e-6)


_ROUND: dict[str, Callable[[Array], Array]] = {
    "round_prefer_floor": _prefer_floor,
    "round_prefer_ceil": _prefer_ceil,
    "floor": np.floor,
    "ceil": np.ceil,
}


@dataclass(frozen=True, slots=True)
class _Dim:
    """A resized dim: its size before and after; coordinates are divided by ``scale``."""

    dim: int
    before: int
    after: int
    scale: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mode:
    kind: str
    coordinates: str
    nearest: str = "round_prefer_floor"
    cubic: float = -0.75
    exclude_outside: bool = False


@onnx_op("Upsample", since=7)
def upsample_by_attributes(node: Node, x: Tensor) -> Tensor:
    return _simple(node, x, node.reals("scales"))


@onnx_op("Upsample", since=9, constants="scales")
@onnx_op("Resize", since=10, constants="scales")
def upsample_by_inputs(node: Node, x: Tensor, scales: Array) -> Tensor:
    return _simple(node, x, tuple(float(value) for value in scales))


@onnx_op("Resize", since=11, constants="roi scales sizes")
def resize(
    node: Node, x: Tensor, roi: Array | None = None, scales: Array | None = None, sizes: Array | None = None
) -> Tensor:
    mode = _Mode(
        kind=node.text("mode", "nearest"),
        coordinates=node.text("coordinate_transformation_mode", "half_pixel"),
        nearest=node.text("nearest_mode", "round_prefer_floor"),
        cubic=node.real("cubic_coeff_a", -0.75),
        exclude_outside=bool(node.integer("exclude_outside", 0)),
    )
    axes = [axis % x.ndim for axis in node.integers("axes", tuple(range(x.ndim)))]
    if scales is not None and scales.size:
        dims = _from_scales(node, x, axes, tuple(float(value) for value in scales))
    elif sizes is not None and sizes.size:
        dims = _from_sizes(node, x, axes, as_ints(sizes))
    else:
        raise node.malformed("neither scales nor sizes are given")
    if node.integer("antialias", 0) and mode.kind != "nearest" and any(item.scale < 1 for item in dims):
        raise node.unsupported("antialias=1 where the output is smaller than the input")
    return _resampled(node, x, dims, mode)


def _simple(node: Node, x: Tensor, scales: tuple[float, ...]) -> Tensor:
    """Resize as before opset 11: ``output[i]`` is ``input[i / scale]``."""
    mode = _Mode(kind=node.text("mode", "nearest"), coordinates="asymmetric", nearest="floor")
    dims = _from_scales(node, x, list(range(x.ndim)), scales)
    for item in dims:
        places = _coordinates(node, item, mode)
        if mode.kind == "nearest" and item.scale < 1 and not np.array_equal(places, np.floor(places)):
            raise node.unsupported(
                f"mode 'nearest' to {item.after} of {item.before} elements: opsets before 11 do not specify "
                "whether to round up or down, and implementations differ"
            )
    return _resampled(node, x, dims, mode)


def _from_scales(node: Node, x: Tensor, axes: list[int], scales: tuple[float, ...]) -> list[_Dim]:
    if len(scales) != len(axes) or min(scales) <= 0:
        raise node.malformed(f"scales {scales} for {len(axes)} dims")
    return [
        _Dim(dim, x.shape[dim], math.floor(np.float32(x.shape[dim]) * np.float32(scale)), scale)
        for dim, scale in zip(axes, scales, strict=True)
    ]


def _from_sizes(node: Node, x: Tensor, axes: list[int], sizes: tuple[int, ...]) -> list[_Dim]:
    if len(sizes) != len(axes) or min(sizes) <= 0:
        raise node.malformed(f"sizes {sizes} for {len(axes)} dims")
    scales = [size / x.shape[dim] for dim, size in zip(axes, sizes, strict=True)]
    match node.text("keep_aspect_ratio_policy", "stretch"):
        case "stretch":
            return [_Dim(d, x.shape[d], n, s) for d, n, s in zip(axes, sizes, scales, strict=True)]
        case "not_larger":
            scale = min(scales)
        case "not_smaller":
            scale = max(scales)
        case policy:
            raise node.malformed(f"the attribute 'keep_aspect_ratio_policy' is {policy!r}")
    return [_Dim(d, x.shape[d], math.floor(scale * x.shape[d] + 0.5), scale) for d in axes]


def _resampled(node: Node, x: Tensor, dims: list[_Dim], mode: _Mode) -> Tensor:
    dims = [item for item in dims if item.after != item.before or item.scale != 1.0]
    if not dims:
        return x
    if max(item.after for item in dims) > _MAX_SIZE:
        raise node.unsupported(f"a dim of {max(item.after for item in dims)} elements")
    match mode.kind:
        case "nearest":
            return _nearest(node, x, dims, mode)
        case "linear" | "bilinear" | "cubic":
            return _weighted(node, x, dims, mode)
    raise node.unsupported(f"mode {mode.kind!r}")


def _coordinates(node: Node, item: _Dim, mode: _Mode) -> Array:
    """Return the input coordinate of each output element, in single precision as ONNX Runtime computes it."""
    half = np.float32(0.5)
    position = np.arange(item.after, dtype=np.float32)
    scale = np.float32(item.scale)
    match mode.coordinates:
        case "half_pixel":
            return (position + half) / scale - half
        case "pytorch_half_pixel":
            return (position + half) / scale - half if item.after > 1 else position
        case "asymmetric":
            return position / scale
        case "align_corners":
            return position * np.float32(item.before - 1) / np.float32(max(item.after - 1, 1))
        case "tf_half_pixel_for_nn":
            return (position + half) / scale
        case "half_pixel_symmetric":
            # The part of the size that was lost to rounding is split between both ends.
            exact = np.float32(item.before) * scale
            offset = np.float32(item.before / 2) * (1 - np.float32(item.after) / exact)
            return offset + (position + half) / scale - half
    raise node.unsupported(f"coordinate_transformation_mode {mode.coordinates!r}")


def _nearest(node: Node, x: Tensor, dims: list[_Dim], mode: _Mode) -> Tensor:
    if mode.nearest not in _ROUND:
        raise node.malformed(f"the attribute 'nearest_mode' is {mode.nearest!r}")
    picked: dict[int, Array] = {}
    for item in dims:
        nearest = _ROUND[mode.nearest](_coordinates(node, item, mode))
        picked[item.dim] = np.clip(nearest, 0, item.before - 1).astype(int)
    if _is_spatial(x, dims) and all(np.array_equal(picked[item.dim], _torchs_nearest(item)) for item in dims):
        return F.interpolate(x, size=_sizes(x, dims), mode="nearest")
    for dim, positions in picked.items():
        x = x.index_select(dim, torch.tensor(positions.tolist(), device=x.device))
    return x


def _torchs_nearest(item: _Dim) -> Array:
    """Return the input elements that ``F.interpolate(size=..., mode="nearest")`` selects."""
    scale = np.float32(item.before) / np.float32(item.after)
    positions = np.floor(np.arange(item.after, dtype=np.float32) * scale).astype(int)
    return np.asarray(np.minimum(positions, item.before - 1))


def _is_spatial(x: Tensor, dims: list[_Dim]) -> bool:
    return 3 <= x.ndim <= 5 and all(item.dim >= 2 for item in dims)


def _sizes(x: Tensor, dims: list[_Dim]) -> list[int]:
    sizes = {item.dim: item.after for item in dims}
    return [sizes.get(dim, x.shape[dim]) for dim in range(2, x.ndim)]


def _weighted(node: Node, x: Tensor, dims: list[_Dim], mode: _Mode) -> Tensor:
    torchs = _torchs_mode(x, dims, mode)
    if torchs is not None:
        align_corners = mode.coordinates == "align_corners"
        return F.interpolate(x, size=_sizes(x, dims), mode=torchs, align_corners=align_corners)
    for item in dims:
        node.check_size((item.after, item.before))
        weights = _matrix(item, _coordinates(node, item, mode).astype(np.float64), mode)
        matrix = torch.tensor(weights.tolist(), dtype=x.dtype, device=x.device)
        x = F.linear(x.transpose(item.dim, -1), matrix).transpose(item.dim, -1)
    return x


def _torchs_mode(x: Tensor, dims: list[_Dim], mode: _Mode) -> str | None:
    """Return torch's name of an equivalent mode, or None."""
    is_aligned = mode.coordinates == "align_corners"
    # If the size was rounded down, torch would use another scale.
    is_exact = all(math.isclose(item.before * item.scale, item.after, rel_tol=1e-6) for item in dims)
    is_half = mode.coordinates in ("half_pixel", "pytorch_half_pixel") and is_exact
    if not _is_spatial(x, dims) or not (is_aligned or is_half):
        return None
    if mode.coordinates == "pytorch_half_pixel" and any(item.after == 1 for item in dims):
        return None
    if mode.kind == "cubic":
        is_torchs = x.ndim == 4 and mode.cubic == -0.75 and not mode.exclude_outside
        return "bicubic" if is_torchs else None
    return None if mode.exclude_outside else _TORCH_LINEAR[x.ndim]


def _matrix(item: _Dim, coordinates: Array, mode: _Mode) -> Array:
    """Return the weight of each input element (column) in each output element (row)."""
    floor = np.floor(coordinates)
    ratio = coordinates - floor
    offsets: tuple[int, ...]
    if mode.kind == "cubic":
        offsets = (-1, 0, 1, 2)
        weights = [_cubic(np.abs(ratio - offset), mode.cubic) for offset in offsets]
    else:
        offsets = (0, 1)
        weights = [1 - ratio, ratio]
    matrix = np.zeros((item.after, item.before))
    for offset, weight in zip(offsets, weights, strict=True):
        column = floor.astype(int) + offset
        inside = (column >= 0) & (column < item.before)
        counted = weight * inside if mode.exclude_outside else weight
        np.add.at(matrix, (np.arange(item.after), np.clip(column, 0, item.before - 1)), counted)
    return matrix / matrix.sum(axis=1, keepdims=True) if mode.exclude_outside else matrix


def _cubic(distance: Array, a: float) -> Array:
    """Return Keys' cubic kernel: 1 at distance 0; 0 at distance 1 and from 2 on."""
    near = ((a + 2) * distance - (a + 3)) * distance * distance + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0.0))


@onnx_op("GridSample", since=16)
def grid_sample(node: Node, x: Tensor, grid: Tensor) -> Tensor:
    modes = {"bilinear": "bilinear", "linear": "bilinear", "nearest": "nearest", "bicubic": "bicubic"}
    modes["cubic"] = "bicubic"
    mode = modes.get(node.text("mode", "linear"))
    if mode is None or (mode == "bicubic" and x.ndim != 4):
        raise node.unsupported(f"mode {node.text('mode')!r} for {x.ndim - 2} spatial dims")
    padding_mode, align_corners = node.text("padding_mode", "zeros"), bool(node.integer("align_corners", 0))
    return F.grid_sample(x, grid, mode, padding_mode, align_corners)
