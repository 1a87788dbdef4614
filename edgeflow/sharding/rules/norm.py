"""Normalisation: layer norm over trailing dims, RMS norm, group norm over channels, softmax over one dim.

Dims that statistics are taken over stay whole; all others are cut freely. GroupNorm is cut along batch and
whole groups only.
"""

from __future__ import annotations

from edgeflow.graph.ir import Operator
from edgeflow.sharding.cut import Cut, Slice
from edgeflow.sharding.region import Interval, Region
from edgeflow.sharding.rules.base import Rule, Specs, localised, normal_dim, out_spec, refuse_contraction


def _cut_trailing(source: str) -> Rule:
    def cut(op: Operator, specs: Specs, region: Region, contraction: Interval | None) -> Cut:
        refuse_contraction(op, contraction)
        shape = out_spec(op, specs).shape
        for dim in range(len(shape) - len(op.arg("normalized_shape")), len(shape)):
            region = region.replace(dim, Interval(0, shape[dim]))
        step = localised(op, specs, **{source: Slice(op.arg(source).name, region)})
        return Cut(steps=(step,), region=region, flops=8 * region.num_elements)

    return Rule(cut=cut)


def _cut_softmax(op: Operator, specs: Specs, region: Region, contraction: Interval | None) -> Cut:
    refuse_contraction(op, contraction)
    shape = out_spec(op, specs).shape
    if shape:
        dim = normal_dim(op.arg("dim"), len(shape))
        region = region.replace(dim, Interval(0, shape[dim]))
    step = localised(op, specs, self=Slice(op.arg("self").name, region))
    return Cut(steps=(step,), region=region, flops=12 * region.num_elements)


def _cut_group_norm(op: Operator, specs: Specs, region: Region, contraction: Interval | None) -> Cut:
    refuse_contraction(op, contraction)
    x, weight, bias = op.arg("input"), op.arg("weight"), op.arg("bias")
    shape, groups = specs[x.name].shape, op.arg("num_groups")
    per_group = shape[1] // groups
    first, last = region[1].start // per_group, -(-region[1].stop // per_group)
    channels = Interval(first * per_group, last * per_group)
    region = Region((region[0], channels, *Region.full(shape).intervals[2:]))
    step = localised(
        op,
        specs,
        input=Slice(x.name, region),
        num_groups=last - first,
        weight=None if weight is None else Slice(weight.name, Region((channels,))),
        bias=None if bias is None else Slice(bias.name, Region((channels,))),
    )
    return Cut(steps=(step,), region=region, flops=8 * region.num_elements)


RULES = {
    "aten.layer_norm.default": _cut_trailing("input"),
    "aten.rms_norm.default": _cut_trailing("input"),
    "aten.group_norm.default": Rule(cut=_cut_group_norm),
    "aten._softmax.default": Rule(cut=_cut_softmax),
    "aten.softmax.int": Rule(cut=_cut_softmax),
    "aten._log_softmax.default": Rule(cut=_cut_softmax),
    "aten.log_softmax.int": Rule(cut=_cut_softmax),
}
