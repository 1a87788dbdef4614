"""Transposed convolutions in one, two and three dims.

Shapes: input ``x_NC...``, weight ``w_CO...`` with O = output channels / groups. Cut along batch, spatial dims
and output channels; contracted over input channels if there is one group.
"""

from __future__ import annotations

from edgeflow.graph.ir import Operator
from edgeflow.sharding.cut import Cut, LocalScalar, Result, Slice, Step
from edgeflow.sharding.region import Interval, Region
from edgeflow.sharding.rules.base import Rule, Specs, call, cut_whole, localised, pairs, refuse_contraction


def input_interval(
    output: Interval, *, kernel: int, stride: int, padding: int, dilation: int, size: int
) -> Interval:
    """Return the input elements that contribute to output elements ``[a, b)``; at least one element.

    They are ``ceil((a + p - d(k-1)) / s)`` to ``floor((b - 1 + p) / s)``, both included, clipped.
    """
    start = -(-(output.start + padding - dilation * (kernel - 1)) // stride)
    stop = (output.stop - 1 + padding) // stride + 1
    start = min(max(start, 0), size - 1)
    return Interval(start, max(start + 1, min(stop, size)))


def _contraction(op: Operator, specs: Specs) -> int | None:
    return specs[op.arg("weight").name].shape[0] if op.arg("groups") == 1 else None


def _cut(op: Operator, specs: Specs, region: Region, contraction: Interval | None) -> Cut:
    x, w, bias = op.arg("input"), op.arg("weight"), op.arg("bias")
    x_spec, w_spec = specs[x.name], specs[w.name]
    if x_spec.ndim != w_spec.ndim:
        return cut_whole(op, specs, region, contraction)
    groups = op.arg("groups")
    if groups > 1:
        refuse_contraction(op, contraction)
    spatial = w_spec.ndim - 2
    strides, paddings, dilations = (pairs(op.arg(key), spatial) for key in ("stride", "padding", "dilation"))
    sources, places = [], []
    for dim in range(spatial):
        kernel = w_spec.shape[2 + dim]
        source = input_interval(
            region[2 + dim],
            kernel=kernel,
            stride=strides[dim],
            padding=paddings[dim],
            dilation=dilations[dim],
            size=x_spec.shape[2 + dim],
        )
        first = source.start * strides[dim] - paddings[dim]
        length = (source.length - 1) * strides[dim] + dilations[dim] * (kernel - 1) + 1
        sources.append(source)
        places.append(Interval(first, first + length))
    out_channels, in_channels, w_out, local_groups = _channels(region[1], groups, w_spec.shape)
    if contraction is not None:
        in_channels = contraction
    w_region = Region((in_channels, w_out, *Region.full(w_spec.shape).intervals[2:]))
    product = localised(
        op,
        specs,
        input=Slice(x.name, Region((region[0], in_channels, *sources))),
        weight=Slice(w.name, w_region),
        bias=None,
        padding=(0,) * spatial,
        output_padding=(0,) * spatial,
        groups=local_groups,
    )
    region = region.replace(1, out_channels)
    steps = placed(product, tuple(places), region)
    if bias is not None and (contraction is None or contraction.start == 0):
        shape = (out_channels.length, *[1] * spatial)
        part = Slice(bias.name, Region((out_channels,)))
        steps += (
            call("aten.reshape.default", self=part, shape=shape),
            call("aten.add.Tensor", self=Result(len(steps) - 1), other=Result(len(steps)), alpha=1),
        )
    taps = in_channels.length // local_groups
    for size in w_spec.shape[2:]:
        taps *= size
    touched = region.num_elements
    for dim in range(spatial):
        touched //= max(1, strides[dim])
    return Cut(steps=steps, region=region, flops=2 * max(1, touched) * taps, contraction=contraction)


def _channels(out: Interval, groups: int, shape: tuple[int, ...]) -> tuple[Interval, Interval, Interval, int]:
    """Return (output channels made, input channels read, weight's output channels, local groups)."""
    of_group, num_in = shape[1], shape[0]
    if groups == 1:
        return out, Interval(0, num_in), out, 1
    first, last = out.start // of_group, (out.stop - 1) // of_group
    in_of_group = num_in // groups
    in_channels = Interval(first * in_of_group, (last + 1) * in_of_group)
    whole = Interval(first * of_group, (last + 1) * of_group)
    return whole, in_channels, Interval(0, of_group), last - first + 1


def placed(product: Step, places: tuple[Interval, ...], region: Region) -> tuple[Step, ...]:
    """Return ``product`` and the steps that crop it, or extend it with zeros, to ``region``.

    Args:
        product: The call whose result covers ``places``.
        places: One interval per trailing dim of the result, in the coordinates of ``region``.
        region: The region to return.
    """
    lead = len(region) - len(places)
    pad: list[LocalScalar] = []
    for dim in reversed(range(len(places))):
        wanted, place = region[lead + dim], places[dim]
        pad += [max(0, place.start - wanted.start), max(0, wanted.stop - place.stop)]
    steps = [product]
    if any(pad):
        steps.append(call("aten.constant_pad_nd.default", self=Result(0), pad=tuple(pad), value=0.0))
    for dim, place in enumerate(places):
        wanted = region[lead + dim]
        offset = wanted.start - min(place.start, wanted.start)
        length = max(place.stop, wanted.stop) - min(place.start, wanted.start)
        if offset or length != wanted.length:
            steps.append(
                call(
                    "aten.slice.Tensor",
                    self=Result(len(steps) - 1),
                    dim=lead + dim,
                    start=offset,
                    end=offset + wanted.length,
                    step=1,
                )
            )
    return tuple(steps)


_RULE = Rule(cut=_cut, contraction=_contraction)
RULES = {
    "aten.conv_transpose1d.default": _RULE,
    "aten.conv_transpose2d.input": _RULE,
    "aten.conv_transpose3d.input": _RULE,
}
