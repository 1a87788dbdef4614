"""Operators with one parameter per channel (dim 1), and operators that mix positions but never channels.

PReLU, and BatchNorm that was not folded at capture, are cut along every dim. Grid sampling is cut along
batch, channels and grid positions; antialiased resampling along batch and channels. Both read the whole
height and width of the image: sampled positions depend on values, antialiasing weights on the full size.
"""

from __future__ import annotations

from edgeflow.graph.ir import Operator, TensorRef
from edgeflow.sharding.cut import Cut, LocalValue, Slice
from edgeflow.sharding.region import Interval, Region
from edgeflow.sharding.rules.base import Rule, Specs, cut_whole, localised, refuse_contraction

_BATCH_NORM = ("weight", "bias", "running_mean", "running_var")


def _cut_prelu(op: Operator, specs: Specs, region: Region, contraction: Interval | None) -> Cut:
    refuse_contraction(op, contraction)
    x, weight = op.arg("self").name, op.arg("weight").name
    per_channel = specs[weight].num_elements > 1
    if specs[weight].ndim > 1 or (per_channel and len(region) < 2):
        return cut_whole(op, specs, region, contraction)
    changes: dict[str, LocalValue] = {"self": Slice(x, region)}
    if per_channel:
        changes["weight"] = Slice(weight, Region((region[1],)))
    return Cut(steps=(localised(op, specs, **changes),), region=region, flops=2 * region.num_elements)


def _cut_batch_norm(op: Operator, specs: Specs, region: Region, contraction: Interval | None) -> Cut:
    """Cut BatchNorm with running statistics; statistics of the batch need the whole input."""
    if op.arg("running_mean") is None or dict(op.arguments).get("training"):
        return cut_whole(op, specs, region, contraction)
    refuse_contraction(op, contraction)
    changes: dict[str, LocalValue] = {"input": Slice(op.arg("input").name, region)}
    for key in _BATCH_NORM:
        ref = op.arg(key)
        if isinstance(ref, TensorRef):
            changes[key] = Slice(ref.name, Region((region[1],)))
    return Cut(steps=(localised(op, specs, **changes),), region=region, flops=4 * region.num_elements)


def _cut_grid_sampler(op: Operator, specs: Specs, region: Region, contraction: Interval | None) -> Cut:
    refuse_contraction(op, contraction)
    image, grid = op.arg("input").name, op.arg("grid").name
    batch, channels, *positions = region.intervals
    spatial = Region.full(specs[image].shape).intervals[2:]
    step = localised(
        op,
        specs,
        input=Slice(image, Region((batch, channels, *spatial))),
        grid=Slice(grid, Region((batch, *positions, Interval(0, len(positions))))),
    )
    return Cut(steps=(step,), region=region, flops=20 * region.num_elements)


def _cut_whole_maps(op: Operator, specs: Specs, region: Region, contraction: Interval | None) -> Cut:
    refuse_contraction(op, contraction)
    image = op.arg("input").name
    batch, channels = region.intervals[:2]
    source = Region((batch, channels, *Region.full(specs[image].shape).intervals[2:]))
    made = Region((batch, channels, *Region.full(specs[op.output].shape).intervals[2:]))
    step = localised(op, specs, input=Slice(image, source))
    return Cut(steps=(step,), region=made, flops=20 * made.num_elements)


RULES = {
    "aten.prelu.default": Rule(cut=_cut_prelu),
    "aten.batch_norm.default": Rule(cut=_cut_batch_norm),
    **{
        f"aten.{name}.default": Rule(cut=_cut_grid_sampler)
        for name in ("grid_sampler", "grid_sampler_2d", "grid_sampler_3d")
    },
    **{f"aten._upsample_{kind}2d_aa.vec": Rule(cut=_cut_whole_maps) for kind in ("bilinear", "bicubic")},
}
