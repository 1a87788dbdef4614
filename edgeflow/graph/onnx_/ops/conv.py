"""Convolutions and transposed convolutions.

Shapes: x (N, C, spatial...), w (M, C/groups, kernel...); of transposed ones, w (C, M/groups, kernel...).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from edgeflow.graph.onnx_.node import Node, onnx_op
from edgeflow.graph.onnx_.ops.window import (
    Window,
    absorb_padding,
    halved,
    pad_spatial,
    per_dim,
    spatial_rank,
    window,
)

_CONV: dict[int, Any] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED: dict[int, Any] = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


@onnx_op("Conv")
def conv(node: Node, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    rank = spatial_rank(node, x)
    found = window(node, x.shape[2:], w.shape[2:])
    x, padding = absorb_padding(x, found)
    y: Tensor = _CONV[rank](x, w, b, found.strides, padding, found.dilations, node.integer("group", 1))
    return y


@onnx_op("ConvTranspose")
def conv_transpose(node: Node, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    rank = spatial_rank(node, x)
    group = node.integer("group", 1)
    extra = per_dim(node, "output_padding", rank, 0)
    found = _transposed_window(node, x.shape[2:], w.shape[2:], extra)
    function = _TRANSPOSED[rank]
    is_torchs = found.begin == found.end and min(found.begin) >= 0
    if is_torchs and all(
        more < max(s, d) for more, s, d in zip(extra, found.strides, found.dilations, strict=True)
    ):
        y: Tensor = function(x, w, b, found.strides, found.begin, extra, group, found.dilations)
        return y
    # Uneven padding: compute the whole output, then crop it, or extend it with zeros that get only the bias.
    whole = function(x, w, None, found.strides, 0, 0, group, found.dilations)
    end = tuple(more - pad for more, pad in zip(extra, found.end, strict=True))
    whole = pad_spatial(whole, tuple(-pad for pad in found.begin), end)
    return whole if b is None else whole + b.reshape(-1, *[1] * rank)


def _transposed_window(
    node: Node, sizes: Sequence[int], kernel: Sequence[int], extra: Sequence[int]
) -> Window:
    """Return the window of a transposed convolution, whose padding crops the output.

    The padding is given, or computed from ``output_shape`` or ``auto_pad``.
    """
    rank = len(sizes)
    auto_pad = node.text("auto_pad", "NOTSET")
    found = window(replace(node, attributes={**node.attributes, "auto_pad": "VALID"}), sizes, kernel)
    if node.has("output_shape"):
        wanted = node.integers("output_shape")[-rank:]
    elif auto_pad in ("NOTSET", "VALID"):
        return window(node, sizes, kernel)
    else:
        wanted = tuple(size * stride for size, stride in zip(sizes, found.strides, strict=True))
    totals = [
        stride * (size - 1) + more + extent - target
        for stride, size, more, extent, target in zip(
            found.strides, sizes, extra, found.extent, wanted, strict=True
        )
    ]
    if min(totals) < 0:
        raise node.unsupported(f"an output of {wanted}, larger than what the kernel reaches")
    return halved(node, found, totals)
