"""Tensors made from numbers (full, arange) and triangles: the result depends on positions only.

Small constants are evaluated at capture; these rules see tensors that are too large to store in a graph, and
triangles of activations.
"""

from __future__ import annotations

from edgeflow.graph.ir import Operator, Symbol
from edgeflow.sharding.cut import Cut, Slice
from edgeflow.sharding.region import Interval, Region
from edgeflow.sharding.rules.base import (
    Rule,
    Specs,
    call,
    localised,
    move_whole,
    out_spec,
    refuse_contraction,
)


def _cut_filled(op: Operator, specs: Specs, region: Region, contraction: Interval | None) -> Cut:
    refuse_contraction(op, contraction)
    step = localised(op, specs, size=region.shape)
    return Cut(steps=(step,), region=region, flops=0)


def _cut_arange(op: Operator, specs: Specs, region: Region, contraction: Interval | None) -> Cut:
    """Cut a range of integers; a range of floats stays whole, since the start of a part would be rounded."""
    refuse_contraction(op, contraction)
    arguments = dict(op.arguments)
    start, step = arguments.get("start", 0), arguments.get("step", 1)
    if not all(isinstance(value, int) for value in (start, step, arguments["end"])):
        return move_whole(op, specs, region, contraction)
    assert isinstance(start, int)
    assert isinstance(step, int)
    first, last = start + region[0].start * step, start + (region[0].stop - 1) * step
    part = call(
        "aten.arange.start_step", start=first, end=last + (1 if step > 0 else -1), step=step,
        dtype=Symbol("dtype", out_spec(op, specs).dtype), layout=None, device=None, pin_memory=None,
    )  # fmt: skip
    return Cut(steps=(part,), region=region, flops=0)


def _cut_triangle(op: Operator, specs: Specs, region: Region, contraction: Interval | None) -> Cut:
    refuse_contraction(op, contraction)
    rows, columns = region[len(region) - 2], region[len(region) - 1]
    source = Slice(op.arg("self").name, region)
    diagonal = op.arg("diagonal") + rows.start - columns.start
    step = localised(op, specs, self=source, diagonal=diagonal)
    return Cut(steps=(step,), region=region, flops=region.num_elements)


_FILLED = Rule(cut=_cut_filled)
_TRIANGLE = Rule(cut=_cut_triangle)
RULES = {
    "aten.full.default": _FILLED,
    "aten.zeros.default": _FILLED,
    "aten.ones.default": _FILLED,
    "aten.arange.start_step": Rule(cut=_cut_arange),
    "aten.arange.start": Rule(cut=_cut_arange),
    "aten.arange.default": Rule(cut=_cut_arange),
    "aten.tril.default": _TRIANGLE,
    "aten.triu.default": _TRIANGLE,
}
