"""Kernel, stride, dilation and padding of convolutions and pools.

All sizes are per spatial dim, in the order of the tensor's dims.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from edgeflow.graph.onnx_.node import Node


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """How a kernel slides; ``begin`` and ``end`` are the padding on either side."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begin: tuple[int, ...]
    end: tuple[int, ...]

    @property
    def extent(self) -> tuple[int, ...]:
        """Number of elements from the first to the last that the dilated kernel covers."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True))


def spatial_rank(node: Node, x: Tensor) -> int:
    """Return the number of spatial dims of ``x`` (N, C, ...); torch supports one to three."""
    if not 3 <= x.ndim <= 5:
        raise node.unsupported(f"{x.ndim - 2} spatial dims; 1 to 3 are supported")
    return x.ndim - 2


def window(node: Node, sizes: Sequence[int], kernel: Sequence[int]) -> Window:
    """Return the window of a node, with ``auto_pad`` resolved for an input of ``sizes``."""
    rank = len(sizes)
    found = Window(
        kernel=tuple(kernel),
        strides=per_dim(node, "strides", rank, 1),
        dilations=per_dim(node, "dilations", rank, 1),
        begin=(0,) * rank,
        end=(0,) * rank,
    )
    if len(found.kernel) != rank:
        raise node.malformed(f"a kernel of {len(found.kernel)} dims over {rank} spatial dims")
    auto_pad = node.text("auto_pad", "NOTSET")
    if auto_pad == "NOTSET":
        pads = node.integers("pads", (0,) * 2 * rank)
        if len(pads) != 2 * rank:
            raise node.malformed(f"the attribute 'pads' should hold {2 * rank} ints, got {pads}")
        return replace(found, begin=pads[:rank], end=pads[rank:])
    if auto_pad == "VALID":
        return found
    totals = [
        max((-(-size // stride) - 1) * stride + extent - size, 0)
        for size, stride, extent in zip(sizes, found.strides, found.extent, strict=True)
    ]
    return halved(node, found, totals)


def halved(node: Node, found: Window, totals: Sequence[int]) -> Window:
    """Return the window with each total padding split in half; ``auto_pad`` places the odd element."""
    less, more = tuple(total // 2 for total in totals), tuple(total - total // 2 for total in totals)
    match node.text("auto_pad", "NOTSET"):
        case "SAME_UPPER":
            return replace(found, begin=less, end=more)
        case "SAME_LOWER" | "NOTSET":
            return replace(found, begin=more, end=less)
    raise node.malformed(f"the attribute 'auto_pad' is {node.text('auto_pad')!r}")


def per_dim(node: Node, key: str, rank: int, default: int) -> tuple[int, ...]:
    """Return an attribute of one int per spatial dim."""
    values = node.integers(key, (default,) * rank)
    if len(values) != rank:
        raise node.malformed(f"the attribute {key!r} should hold {rank} ints, got {values}")
    return values


def pad_spatial(x: Tensor, begin: Sequence[int], end: Sequence[int], value: float = 0.0) -> Tensor:
    """Return ``x`` padded along its last dims; negative padding crops."""
    if not any(begin) and not any(end):
        return x
    pairs = list(zip(begin, end, strict=True))
    return F.pad(x, [number for pair in reversed(pairs) for number in pair], value=value)


def absorb_padding(x: Tensor, found: Window) -> tuple[Tensor, tuple[int, ...]]:
    """Return (input, padding left to torch); padding that torch cannot do is added to the input here."""
    if found.begin == found.end and min(found.begin) >= 0:
        return x, found.begin
    return pad_spatial(x, found.begin, found.end), (0,) * len(found.begin)


def lowest(dtype: torch.dtype) -> float:
    """Return the smallest value of a dtype, used as padding that never is a maximum."""
    return float("-inf") if dtype.is_floating_point else torch.iinfo(dtype).min
