"""Max and average pooling in one, two and three dims, with every rounding and divisor rule of torch.

Shapes: input ``x_NC...``. Cut along batch, channels and every spatial dim. Pooling to a given output size is
in `edgeflow.sharding.rules.adaptive`.
"""

from __future__ import annotations

import itertools
import math

from edgeflow.graph.ir import Operator, Symbol
from edgeflow.sharding.cut import Cut, Literal, Result, Slice
from edgeflow.sharding.region import Interval, Region
from edgeflow.sharding.rules.base import Rule, Specs, call, cut_whole, localised, pairs, refuse_contraction
from edgeflow.sharding.rules.window import Window, input_window, padded

_FLOATS = ("float32", "float64", "float16", "bfloat16")


def _windows(op: Operator, specs: Specs, region: Region) -> tuple[Window, ...]:
    spatial = len(region) - 2
    sizes = specs[op.arg("self").name].shape[2:]
    kernels, paddings = (pairs(op.arg(key), spatial) for key in ("kernel_size", "padding"))
    dilations = pairs(dict(op.arguments).get("dilation", 1), spatial)  # average pools have none
    strides = _strides(op, spatial)
    return tuple(
        input_window(
            region[2 + dim],
            kernel=kernels[dim],
            stride=strides[dim],
            padding=paddings[dim],
            dilation=dilations[dim],
            size=sizes[dim],
        )
        for dim in range(spatial)
    )


def _strides(op: Operator, spatial: int) -> tuple[int, ...]:
    return pairs(op.arg("stride") or op.arg("kernel_size"), spatial)


def _is_plain(op: Operator, specs: Specs, spatial: int) -> bool:
    spec = specs[op.arg("self").name]
    return spec.ndim == 2 + spatial and spec.dtype in _FLOATS


def _source(op: Operator, region: Region, windows: tuple[Window, ...]) -> Slice:
    return Slice(op.arg("self").name, Region((*region.intervals[:2], *(w.interval for w in windows))))


def _flops(op: Operator, region: Region, windows: tuple[Window, ...]) -> int:
    """Return one operation per window element; a kernel larger than the slice counts as the slice."""
    work = region.num_elements
    for kernel, window in zip(pairs(op.arg("kernel_size"), len(windows)), windows, strict=True):
        work *= min(kernel, window.interval.length)
    return work


def _max(spatial: int) -> Rule:
    def cut(op: Operator, specs: Specs, region: Region, contraction: Interval | None) -> Cut:
        if not _is_plain(op, specs, spatial):
            return cut_whole(op, specs, region, contraction)
        refuse_contraction(op, contraction)
        windows = _windows(op, specs, region)
        steps, operand, own = padded(_source(op, region, windows), windows, value=Symbol("float", "-inf"))
        steps += (localised(op, specs, self=operand, padding=own, ceil_mode=False),)
        return Cut(steps=steps, region=region, flops=_flops(op, region, windows))

    return Rule(cut=cut)


def _average(spatial: int) -> Rule:
    def cut(op: Operator, specs: Specs, region: Region, contraction: Interval | None) -> Cut:
        if not _is_plain(op, specs, spatial):
            return cut_whole(op, specs, region, contraction)
        refuse_contraction(op, contraction)
        windows = _windows(op, specs, region)
        # Take the mean over the kernel, padding included; then correct it where torch divides by fewer.
        steps, operand, own = padded(_source(op, region, windows), windows, value=0.0)
        steps += (localised(op, specs, self=operand, padding=own, ceil_mode=False, count_include_pad=True),)
        factors = _factors(op, specs, region)
        if any(factor != 1.0 for factor in factors.values):
            steps += (call("aten.mul.Tensor", self=Result(len(steps) - 1), other=factors),)
        return Cut(steps=steps, region=region, flops=_flops(op, region, windows))

    return Rule(cut=cut)


def _factors(op: Operator, specs: Specs, region: Region) -> Literal:
    """Return (kernel elements / counted elements) per output element; 1 with ``divisor_override``.

    Correcting the mean rather than dividing a sum avoids overflow in half precision.
    """
    spec, spatial = specs[op.arg("self").name], len(region) - 2
    if dict(op.arguments).get("divisor_override") is not None:
        return Literal((1,) * spatial, (1.0,), spec.dtype)
    counts = [_counts(op, spec.shape[2 + dim], region[2 + dim], dim, spatial) for dim in range(spatial)]
    kernel = math.prod(pairs(op.arg("kernel_size"), spatial))
    values = tuple(kernel / math.prod(count) for count in itertools.product(*counts))
    return Literal(region.shape[2:], values, spec.dtype)


def _counts(op: Operator, size: int, output: Interval, dim: int, spatial: int) -> tuple[int, ...]:
    """Return the number of elements that each window counts along one dim, as in ATen's ``avg_pool2d``."""
    kernel, stride = pairs(op.arg("kernel_size"), spatial)[dim], _strides(op, spatial)[dim]
    padding = pairs(op.arg("padding"), spatial)[dim]
    counts = []
    for index in range(output.start, output.stop):
        start = index * stride - padding
        stop = min(start + kernel, size + padding)
        if not op.arg("count_include_pad"):
            start, stop = max(start, 0), min(stop, size)
        counts.append(stop - start)
    return tuple(counts)


RULES = {
    **{f"aten.max_pool{n}d.default": _max(n) for n in (1, 2, 3)},
    **{f"aten.avg_pool{n}d.default": _average(n) for n in (1, 2, 3)},
}
