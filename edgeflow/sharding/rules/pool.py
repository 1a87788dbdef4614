"""Pooling: max, average (every rounding and divisor rule of torch), adaptive average.

Cut along batch, channels and both spatial dims. Adaptive average pooling to one row is also contracted over
the input's rows: each device sums the rows that it has and divides by the full count, so uneven shares stay
exact (a mean of means would not be).
"""

from __future__ import annotations

from edgeflow.graph.ir import Operator, Symbol
from edgeflow.sharding.cut import Cut, Literal, Result, Slice
from edgeflow.sharding.region import Interval, Region
from edgeflow.sharding.rules.base import (
    Rule,
    Specs,
    call,
    cut_whole,
    localised,
    out_spec,
    pairs,
    refuse_contraction,
)
from edgeflow.sharding.rules.window import Window, input_window, padded


def _windows(op: Operator, specs: Specs, region: Region, dilations: tuple[int, ...]) -> tuple[Window, ...]:
    x_spec = specs[op.arg("self").name]
    kernels = pairs(op.arg("kernel_size"), 2)
    return tuple(
        input_window(
            region[2 + dim],
            kernel=kernels[dim],
            stride=_strides(op)[dim],
            padding=pairs(op.arg("padding"), 2)[dim],
            dilation=dilations[dim],
            size=x_spec.shape[2 + dim],
        )
        for dim in range(2)
    )


def _strides(op: Operator) -> tuple[int, ...]:
    return pairs(op.arg("stride") or op.arg("kernel_size"), 2)


def _is_plain(op: Operator, specs: Specs) -> bool:
    spec = specs[op.arg("self").name]
    return spec.ndim == 4 and spec.dtype in ("float32", "float64", "float16", "bfloat16")


def _source(op: Operator, region: Region, windows: tuple[Window, ...]) -> Slice:
    return Slice(op.arg("self").name, Region((*region.intervals[:2], *(w.interval for w in windows))))


def _flops(op: Operator, region: Region, windows: tuple[Window, ...]) -> int:
    """One operation per element of a window; a kernel may be larger than the input."""
    work = region.num_elements
    for kernel, window in zip(pairs(op.arg("kernel_size"), 2), windows, strict=True):
        work *= min(kernel, window.interval.length)
    return work


def _cut_max(op: Operator, specs: Specs, region: Region, contraction: Interval | None) -> Cut:
    if not _is_plain(op, specs):
        return cut_whole(op, specs, region, contraction)
    refuse_contraction(op, contraction)
    windows = _windows(op, specs, region, pairs(op.arg("dilation"), 2))
    steps, operand, own = padded(_source(op, region, windows), windows, value=Symbol("float", "-inf"))
    steps += (localised(op, specs, self=operand, padding=own, ceil_mode=False),)
    return Cut(steps=steps, region=region, flops=_flops(op, region, windows))


def _cut_average(op: Operator, specs: Specs, region: Region, contraction: Interval | None) -> Cut:
    if not _is_plain(op, specs):
        return cut_whole(op, specs, region, contraction)
    refuse_contraction(op, contraction)
    windows = _windows(op, specs, region, (1, 1))
    # The mean over the kernel, zeros included; then a factor where torch divides by fewer elements.
    steps, operand, own = padded(_source(op, region, windows), windows, value=0.0)
    steps += (localised(op, specs, self=operand, padding=own, ceil_mode=False, count_include_pad=True),)
    factors = _factors(op, specs, region)
    if any(factor != 1.0 for factor in factors.values):
        steps += (call("aten.mul.Tensor", self=Result(len(steps) - 1), other=factors),)
    return Cut(steps=steps, region=region, flops=_flops(op, region, windows))


def _factors(op: Operator, specs: Specs, region: Region) -> Literal:
    """Kernel elements over counted elements, per output element; a divisor of one's own makes them all one.

    The sum itself is never formed, as it may overflow in half precision where the mean does not.
    """
    spec = specs[op.arg("self").name]
    if op.arg("divisor_override") is not None:
        return Literal((1, 1), (1.0,), spec.dtype)
    rows, columns = (_counts(op, spec.shape[2 + dim], region[2 + dim], dim) for dim in range(2))
    kernel_h, kernel_w = pairs(op.arg("kernel_size"), 2)
    values = tuple(kernel_h * kernel_w / (row * column) for row in rows for column in columns)
    return Literal((len(rows), len(columns)), values, spec.dtype)


def _counts(op: Operator, size: int, output: Interval, dim: int) -> tuple[int, ...]:
    """Elements that each window counts along one dim, as torch does: see ATen's ``avg_pool2d``."""
    kernel, stride = pairs(op.arg("kernel_size"), 2)[dim], _strides(op)[dim]
    padding = pairs(op.arg("padding"), 2)[dim]
    counts = []
    for index in range(output.start, output.stop):
        start = index * stride - padding
        stop = min(start + kernel, size + padding)
        if not op.arg("count_include_pad"):
            start, stop = max(start, 0), min(stop, size)
        counts.append(stop - start)
    return tuple(counts)


def _cut_adaptive(op: Operator, specs: Specs, region: Region, contraction: Interval | None) -> Cut:
    x = op.arg("self")
    spec, sizes = specs[x.name], out_spec(op, specs).shape
    if spec.ndim != 4:
        return cut_whole(op, specs, region, contraction)
    spatial = []
    for dim in (2, 3):
        factor, rest = divmod(spec.shape[dim], sizes[dim])
        if rest:  # windows of unequal size: take the whole dim
            region = region.replace(dim, Interval(0, sizes[dim]))
            spatial.append(Interval(0, spec.shape[dim]))
        else:
            spatial.append(Interval(region[dim].start * factor, region[dim].stop * factor))
    if contraction is not None:
        spatial[0] = contraction
    source = Slice(x.name, Region((*region.intervals[:2], *spatial)))
    steps = [localised(op, specs, self=source, output_size=(region[2].length, region[3].length))]
    if contraction is not None:
        share = contraction.length / spec.shape[2]
        steps.append(call("aten.mul.Scalar", self=Result(0), other=share))
    return Cut(steps=tuple(steps), region=region, flops=source.region.num_elements, contraction=contraction)


def _adaptive_contraction(op: Operator, specs: Specs) -> int | None:
    spec = specs[op.arg("self").name]
    return spec.shape[2] if spec.ndim == 4 and out_spec(op, specs).shape[2] == 1 else None


RULES = {
    "aten.max_pool2d.default": Rule(cut=_cut_max),
    "aten.avg_pool2d.default": Rule(cut=_cut_average),
    "aten.adaptive_avg_pool2d.default": Rule(cut=_cut_adaptive, contraction=_adaptive_contraction),
}
