"""Cumulative operators, sorting and top-k: operators along one dim that leave the others alone.

A cumulative sum up to a position reads and makes everything before it. Sorting and top-k take their dim
whole. Operators with two outputs (values and indices) are joint: both have one shape and are cut alike.
"""

from __future__ import annotations

from edgeflow.graph.ir import Operator
from edgeflow.sharding.cut import Cut, Slice
from edgeflow.sharding.region import Interval, Region
from edgeflow.sharding.rules.base import Rule, Specs, localised, normal_dim, refuse_contraction


def _cut_running(op: Operator, specs: Specs, region: Region, contraction: Interval | None) -> Cut:
    refuse_contraction(op, contraction)
    if len(region):
        dim = normal_dim(op.arg("dim"), len(region))
        region = region.replace(dim, Interval(0, region[dim].stop))
    step = localised(op, specs, self=Slice(op.arg("self").name, region))
    return Cut(steps=(step,), region=region, flops=region.num_elements)


def _cut_sorted(op: Operator, specs: Specs, region: Region, contraction: Interval | None) -> Cut:
    refuse_contraction(op, contraction)
    x = op.arg("self").name
    shape = specs[x].shape
    source = region
    if shape:
        dim = normal_dim(op.arg("dim"), len(shape))
        made = specs[op.first_output].shape[dim]
        region, source = region.replace(dim, Interval(0, made)), region.replace(dim, Interval(0, shape[dim]))
    step = localised(op, specs, self=Slice(x, source))
    # A sort compares each element about log2(dim) times; 8 stands for that, roughly.
    return Cut(steps=(step,), region=region, flops=8 * source.num_elements)


_RUNNING = Rule(cut=_cut_running, is_joint=True)
_SORTED = Rule(cut=_cut_sorted, is_joint=True)
RULES = {
    "aten.cumsum.default": _RUNNING,
    "aten.cumprod.default": _RUNNING,
    "aten.logcumsumexp.default": _RUNNING,
    "aten.cummax.default": _RUNNING,
    "aten.cummin.default": _RUNNING,
    "aten.sort.default": _SORTED,
    "aten.sort.stable": _SORTED,
    "aten.argsort.default": _SORTED,
    "aten.argsort.stable": _SORTED,
    "aten.topk.default": _SORTED,
}
