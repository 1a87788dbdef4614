"""Pooling. Shapes: x (N, C, spatial...).

torch pads both sides of a dim equally, by at most half a kernel. Other padding is explicit here, with values
that do not count; averages are then divided by the number of elements that count in each window.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from edgeflow.graph.onnx_.node import Node, onnx_op
from edgeflow.graph.onnx_.ops.window import Window, lowest, pad_spatial, spatial_rank, window

_MAX: dict[int, Any] = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_AVERAGE: dict[int, Any] = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


@onnx_op("MaxPool")
def max_pool(node: Node, x: Tensor) -> Tensor:
    rank = spatial_rank(node, x)
    found = _window(node, x)
    pool = _MAX[rank]
    if _is_torchs(found):
        is_ceil = _is_ceil(node)
        y: Tensor = pool(x, found.kernel, found.strides, found.begin, found.dilations, is_ceil)
    else:
        x = pad_spatial(x, found.begin, _reach(node, found, x), lowest(x.dtype))
        y = pool(x, found.kernel, found.strides, 0, found.dilations)
    return y


@onnx_op("AveragePool")
def average_pool(node: Node, x: Tensor) -> Tensor:
    rank = spatial_rank(node, x)
    found = _window(node, x)
    counts_padding = bool(node.integer("count_include_pad", 0))
    pool = _AVERAGE[rank]
    if any(dilation != 1 for dilation in found.dilations):
        raise node.unsupported(f"dilations {found.dilations}; averages are supported without dilation")
    if _is_torchs(found):
        is_ceil = _is_ceil(node)
        y: Tensor = pool(x, found.kernel, found.strides, found.begin, is_ceil, counts_padding)
        return y
    end = _reach(node, found, x)
    total = pool(pad_spatial(x, found.begin, end), found.kernel, found.strides)
    # 1 for elements that count: the input, and the padding if it counts, but never the elements that are only
    # reached because the number of windows was rounded up.
    ones = torch.ones((1, 1, *x.shape[2:]), dtype=x.dtype, device=x.device)
    ones = pad_spatial(ones, found.begin, found.end, float(counts_padding))
    ones = pad_spatial(ones, (0,) * rank, tuple(a - b for a, b in zip(end, found.end, strict=True)))
    mean: Tensor = total / pool(ones, found.kernel, found.strides)
    return mean


@onnx_op("LpPool", since=2)
def lp_pool(node: Node, x: Tensor) -> Tensor:
    rank = spatial_rank(node, x)
    p = node.integer("p", 2)
    found = _window(node, x)
    if any(dilation != 1 for dilation in found.dilations):
        raise node.unsupported(f"dilations {found.dilations}; sums are supported without dilation")
    powers = pad_spatial(x.abs().pow(p), found.begin, _reach(node, found, x))
    y: Tensor = (_AVERAGE[rank](powers, found.kernel, found.strides) * _product(found.kernel)).pow(1.0 / p)
    return y


@onnx_op("GlobalAveragePool")
def global_average_pool(node: Node, x: Tensor) -> Tensor:
    return x.mean(dim=_spatial(x), keepdim=True)


@onnx_op("GlobalMaxPool")
def global_max_pool(node: Node, x: Tensor) -> Tensor:
    return x.amax(dim=_spatial(x), keepdim=True)


@onnx_op("GlobalLpPool", since=2)
def global_lp_pool(node: Node, x: Tensor) -> Tensor:
    p = node.integer("p", 2)
    return x.abs().pow(p).sum(dim=_spatial(x), keepdim=True).pow(1.0 / p)


def _window(node: Node, x: Tensor) -> Window:
    """Return the window of a pool; refuse ``auto_pad`` where implementations of the standard differ."""
    found = window(node, x.shape[2:], node.integers("kernel_shape"))
    if node.text("auto_pad", "NOTSET").startswith("SAME"):
        for size, stride, extent in zip(x.shape[2:], found.strides, found.extent, strict=True):
            left_over = size - (-(-size // stride) - 1) * stride - extent
            if left_over > 0:
                # The formula gives negative padding: implementations crop, pad nothing, or refuse.
                raise node.unsupported(
                    f"auto_pad with stride {stride} over {size} elements, "
                    f"of which the windows of {extent} leave {left_over} out"
                )
    return found


def _spatial(x: Tensor) -> list[int]:
    return list(range(2, x.ndim))


def _product(sizes: tuple[int, ...]) -> int:
    product = 1
    for size in sizes:
        product *= size
    return product


def _is_ceil(node: Node) -> bool:
    return bool(node.integer("ceil_mode", 0)) and node.text("auto_pad", "NOTSET") == "NOTSET"


def _is_torchs(found: Window) -> bool:
    return found.begin == found.end and all(
        0 <= pad <= kernel // 2 for pad, kernel in zip(found.begin, found.kernel, strict=True)
    )


def _reach(node: Node, found: Window, x: Tensor) -> tuple[int, ...]:
    """Return the end padding per dim with which the last window just fits.

    With ``ceil_mode``, the last window must start inside the input or the padding before it.
    """
    end = []
    for index, size in enumerate(x.shape[2:]):
        stride, begin = found.strides[index], found.begin[index]
        room = size + begin + found.end[index] - found.extent[index]
        steps = -(-room // stride) if _is_ceil(node) else room // stride
        if _is_ceil(node) and steps * stride >= size + begin:
            steps -= 1
        end.append(steps * stride + found.extent[index] - size - begin)
    return tuple(end)
