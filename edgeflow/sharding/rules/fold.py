"""Windows as a separate dim: ``F.unfold`` (im2col), ``F.fold`` (col2im) and ``Tensor.unfold``.

Shapes: image ``x_NCHW``, columns ``c_N(Ckk)L`` with one column per window position, in row-major order. The
batch dim may be missing. im2col is cut along batch, channels and positions, widened to whole rows of
positions. col2im is cut along batch, channels and image positions, and reads whole rows of columns.
"""

from __future__ import annotations

from edgeflow.graph.ir import Operator
from edgeflow.sharding.cut import Cut, Slice
from edgeflow.sharding.region import Interval, Region
from edgeflow.sharding.rules.base import (
    Rule,
    Specs,
    cut_whole,
    localised,
    normal_dim,
    out_spec,
    pairs,
    refuse_contraction,
)
from edgeflow.sharding.rules.conv_transpose import input_interval, placed
from edgeflow.sharding.rules.window import input_window, padded


def _geometry(op: Operator) -> tuple[tuple[int, int, int, int], ...]:
    """Return (kernel, dilation, padding, stride) per spatial dim."""
    keys = ("kernel_size", "dilation", "padding", "stride")
    return tuple(zip(*(pairs(op.arg(key), 2) for key in keys), strict=True))


def _num_positions(op: Operator, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the number of window positions per spatial dim of an image of this (height, width)."""
    return tuple(
        (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
        for size, (kernel, dilation, padding, stride) in zip(shape, _geometry(op), strict=True)
    )


def _cut_im2col(op: Operator, specs: Specs, region: Region, contraction: Interval | None) -> Cut:
    x = op.arg("self").name
    refuse_contraction(op, contraction)
    size = specs[x].shape[-2:]
    width = _num_positions(op, size)[1]
    *batch, features, positions = region.intervals
    rows = Interval(positions.start // width, -(-positions.stop // width))
    windows = tuple(
        input_window(wanted, kernel=kernel, stride=stride, padding=padding, dilation=dilation, size=num)
        for wanted, num, (kernel, dilation, padding, stride) in zip(
            (rows, Interval(0, width)), size, _geometry(op), strict=True
        )
    )
    channels, features = _whole_windows(op, features)
    source = Slice(x, Region((*batch, channels, *(window.interval for window in windows))))
    steps, operand, own = padded(source, windows, value=0.0)
    steps += (localised(op, specs, self=operand, padding=own),)
    made = Region((*batch, features, Interval(rows.start * width, rows.stop * width)))
    return Cut(steps=steps, region=made, flops=0)


def _whole_windows(op: Operator, features: Interval) -> tuple[Interval, Interval]:
    """Return the channels that these column features come from, and all features of these channels."""
    kernel_h, kernel_w = pairs(op.arg("kernel_size"), 2)
    taps = kernel_h * kernel_w
    channels = Interval(features.start // taps, -(-features.stop // taps))
    return channels, Interval(channels.start * taps, channels.stop * taps)


def _cut_col2im(op: Operator, specs: Specs, region: Region, contraction: Interval | None) -> Cut:
    columns = op.arg("self").name
    refuse_contraction(op, contraction)
    (kernel, dilation, padding, stride), (kernel_w, dilation_w, padding_w, stride_w) = _geometry(op)
    height, width = _num_positions(op, out_spec(op, specs).shape[-2:])
    rows = input_interval(
        region[-2], kernel=kernel, stride=stride, padding=padding, dilation=dilation, size=height
    )
    taps = kernel * kernel_w
    *batch, channels = region.intervals[:-2]
    features = Interval(channels.start * taps, channels.stop * taps)
    source = Slice(columns, Region((*batch, features, Interval(rows.start * width, rows.stop * width))))
    # Fold onto everything that the windows cover, padding included; then crop to the requested region.
    first = rows.start * stride - padding
    covered = (
        Interval(first, first + (rows.length - 1) * stride + dilation * (kernel - 1) + 1),
        Interval(-padding_w, (width - 1) * stride_w + dilation_w * (kernel_w - 1) + 1 - padding_w),
    )
    size = tuple(interval.length for interval in covered)
    product = localised(op, specs, self=source, output_size=size, padding=(0, 0))
    work = source.region.num_elements
    return Cut(steps=placed(product, covered, region), region=region, flops=work)


def _cut_unfold(op: Operator, specs: Specs, region: Region, contraction: Interval | None) -> Cut:
    """Cut ``y[..., i, ..., j] = x[..., i * step + j, ...]``."""
    refuse_contraction(op, contraction)
    x = op.arg("self").name
    ndim = specs[x].ndim
    if ndim == 0:
        return cut_whole(op, specs, region, contraction)
    dim, step = normal_dim(op.arg("dimension"), ndim), op.arg("step")
    windows, elements = region[dim], region[ndim]
    source = Interval(windows.start * step + elements.start, (windows.stop - 1) * step + elements.stop)
    part = Slice(x, Region(region.intervals[:ndim]).replace(dim, source))
    return Cut(steps=(localised(op, specs, self=part, size=elements.length),), region=region, flops=0)


RULES = {
    "aten.im2col.default": Rule(cut=_cut_im2col),
    "aten.col2im.default": Rule(cut=_cut_col2im),
    "aten.unfold.default": Rule(cut=_cut_unfold, is_view=True),
}
