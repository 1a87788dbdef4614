"""Convolutions in one, two and three dims: any kernel, stride, padding, dilation and groups.

Shapes: input ``x_NC...``, weight ``w_OI...`` with I = C / groups, output ``y_NO...``. Cut along batch, every
spatial dim and output channels; contracted over input channels if there is one group.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from edgeflow.graph.ir import Operator, TensorRef
from edgeflow.sharding.cut import Cut, Slice
from edgeflow.sharding.region import Interval, Region
from edgeflow.sharding.rules.base import Rule, Specs, localised, out_spec, pairs, refuse_contraction
from edgeflow.sharding.rules.window import input_window, padded


def _contraction(op: Operator, specs: Specs) -> int | None:
    x_spec, w_spec = specs[op.arg("input").name], specs[op.arg("weight").name]
    return w_spec.shape[1] if op.arg("groups") == 1 and x_spec.ndim == w_spec.ndim else None


class _Arguments(NamedTuple):
    x: TensorRef
    w: TensorRef
    bias: TensorRef | None
    groups: int
    strides: tuple[int, ...]
    paddings: tuple[int, ...]
    dilations: tuple[int, ...]


@lru_cache(maxsize=4096)  # convolutions are cut thousands of times
def _arguments(op: Operator, spatial: int) -> _Arguments:
    windows = (pairs(op.arg(key), spatial) for key in ("stride", "padding", "dilation"))
    return _Arguments(op.arg("input"), op.arg("weight"), op.arg("bias"), op.arg("groups"), *windows)


def _cut(op: Operator, specs: Specs, region: Region, contraction: Interval | None) -> Cut:
    spatial = len(region) - 2
    x, w, bias, groups, strides, paddings, dilations = _arguments(op, spatial)
    x_spec, w_spec = specs[x.name], specs[w.name]
    if x_spec.ndim != w_spec.ndim:  # an unbatched input: rare, so run whole
        region = Region.full(out_spec(op, specs).shape)
        refuse_contraction(op, contraction)
        return Cut(steps=(localised(op, specs),), region=region, flops=_flops(region, w_spec.shape[1:]))
    if groups > 1:
        refuse_contraction(op, contraction)
    windows = tuple(
        input_window(
            region[2 + dim],
            kernel=w_spec.shape[2 + dim],
            stride=strides[dim],
            padding=paddings[dim],
            dilation=dilations[dim],
            size=x_spec.shape[2 + dim],
        )
        for dim in range(spatial)
    )
    out_channels, in_channels, local_groups = _channels(
        region[1], groups=groups, num_out=w_spec.shape[0], num_in_of_group=w_spec.shape[1]
    )
    w_in = Interval(0, w_spec.shape[1])
    if contraction is not None:
        in_channels = w_in = contraction
    x_slice = Slice(x.name, Region((region[0], in_channels, *(window.interval for window in windows))))
    w_region = Region((out_channels, w_in, *Region.full(w_spec.shape).intervals[2:]))
    steps, operand, own_padding = padded(x_slice, windows, value=0.0)
    if contraction is not None and contraction.start > 0:
        bias = None  # the first partial sum adds it
    steps += (
        localised(
            op,
            specs,
            input=operand,
            weight=Slice(w.name, w_region),
            bias=Slice(bias.name, Region((out_channels,))) if bias is not None else None,
            padding=own_padding,
            groups=local_groups,
        ),
    )
    region = region.replace(1, out_channels)
    return Cut(steps=steps, region=region, flops=_flops(region, w_region.shape[1:]), contraction=contraction)


def _channels(
    out: Interval, *, groups: int, num_out: int, num_in_of_group: int
) -> tuple[Interval, Interval, int]:
    """Return (output channels made, input channels read, local groups).

    Output channels are widened to whole groups, unless they lie inside one.
    """
    out_of_group = num_out // groups
    first, last = out.start // out_of_group, (out.stop - 1) // out_of_group
    in_channels = Interval(first * num_in_of_group, (last + 1) * num_in_of_group)
    if first != last:
        out = Interval(first * out_of_group, (last + 1) * out_of_group)
    return out, in_channels, last - first + 1


def _flops(region: Region, kernel: tuple[int, ...]) -> int:
    macs = region.num_elements
    for size in kernel:
        macs *= size
    return 2 * macs


_RULE = Rule(cut=_cut, contraction=_contraction)
RULES = {f"aten.conv{n}d.default": _RULE for n in (1, 2, 3)}
