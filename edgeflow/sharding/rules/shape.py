"""Operators that only move elements: reshapes, permute, expand, slice, select, cat, stack, constant padding.

``repeat_interleave`` is here as well; other maps of positions are in `edgeflow.sharding.rules.remap`.
"""

from __future__ import annotations

from edgeflow.graph.ir import Operator, Symbol, TensorRef
from edgeflow.graph.views import permutation
from edgeflow.sharding.cut import Cut, Result, Slice, Step
from edgeflow.sharding.region import Interval, Region
from edgeflow.sharding.rules.base import (
    Rule,
    Specs,
    call,
    localised,
    move_whole,
    normal_dim,
    out_spec,
    refuse_contraction,
)
from edgeflow.sharding.rules.window import input_window


def _cut_permute(op: Operator, specs: Specs, region: Region, contraction: Interval | None) -> Cut:
    refuse_contraction(op, contraction)
    x = op.arg("self").name
    source = list(region.intervals)
    for index, dim in enumerate(permutation(op, len(region))):
        source[dim] = region[index]
    return Cut(steps=(localised(op, specs, self=Slice(x, Region(tuple(source)))),), region=region, flops=0)


def _cut_expand(op: Operator, specs: Specs, region: Region, contraction: Interval | None) -> Cut:
    refuse_contraction(op, contraction)
    x = op.arg("self").name
    shape = specs[x].shape
    offset = len(region) - len(shape)
    source = Region(
        tuple(Interval(0, 1) if size == 1 else region[offset + dim] for dim, size in enumerate(shape))
    )
    return Cut(
        steps=(localised(op, specs, self=Slice(x, source), size=region.shape),), region=region, flops=0
    )


def _cut_slice(op: Operator, specs: Specs, region: Region, contraction: Interval | None) -> Cut:
    refuse_contraction(op, contraction)
    x = op.arg("self").name
    size = specs[x].shape
    dim, step = normal_dim(op.arg("dim"), len(size)), op.arg("step")
    start = op.arg("start") or 0
    first = min(max(start + size[dim] if start < 0 else start, 0), size[dim])
    wanted = region[dim]
    source = Interval(first + wanted.start * step, first + (wanted.stop - 1) * step + 1)
    local = localised(op, specs, self=Slice(x, region.replace(dim, source)), start=0, end=source.length)
    return Cut(steps=(local,), region=region, flops=0)


def _cut_select(op: Operator, specs: Specs, region: Region, contraction: Interval | None) -> Cut:
    refuse_contraction(op, contraction)
    x = op.arg("self").name
    shape = specs[x].shape
    dim, index = normal_dim(op.arg("dim"), len(shape)), op.arg("index")
    index += shape[dim] if index < 0 else 0
    source = Region((*region.intervals[:dim], Interval(index, index + 1), *region.intervals[dim:]))
    return Cut(steps=(localised(op, specs, self=Slice(x, source), index=0),), region=region, flops=0)


def _cut_cat(op: Operator, specs: Specs, region: Region, contraction: Interval | None) -> Cut:
    refuse_contraction(op, contraction)
    ndim = len(region)
    dim = normal_dim(op.arg("dim"), ndim)
    wanted, offset, parts = region[dim], 0, []
    for ref in op.arg("tensors"):
        shape = specs[ref.name].shape
        if len(shape) != ndim:  # torch accepts an empty 1-d tensor beside tensors of any shape
            continue
        part = wanted.shift(-offset).intersect(Interval(0, shape[dim]))
        offset += shape[dim]
        if part.length:
            parts.append(Slice(ref.name, region.replace(dim, part)))
    return Cut(steps=_joined(op, specs, tuple(parts)), region=region, flops=0)


def _cut_stack(op: Operator, specs: Specs, region: Region, contraction: Interval | None) -> Cut:
    refuse_contraction(op, contraction)
    dim = normal_dim(op.arg("dim"), len(region))
    inner = Region((*region.intervals[:dim], *region.intervals[dim + 1 :]))
    chosen: tuple[TensorRef, ...] = op.arg("tensors")[region[dim].start : region[dim].stop]
    parts = tuple(Slice(ref.name, inner) for ref in chosen)
    return Cut(steps=_joined(op, specs, parts), region=region, flops=0)


def _joined(op: Operator, specs: Specs, parts: tuple[Slice, ...]) -> tuple[Step, ...]:
    """Return steps that join ``parts``, and cast the result if none of the parts has the output's dtype."""
    dtype = out_spec(op, specs).dtype
    join = localised(op, specs, tensors=parts)
    if any(specs[part.tensor].dtype == dtype for part in parts):
        return (join,)
    return join, call("aten._to_copy.default", self=Result(0), dtype=Symbol("dtype", dtype))


def _cut_pad(op: Operator, specs: Specs, region: Region, contraction: Interval | None) -> Cut:
    """Cut constant padding, or cropping where padding is negative, as a window of one element."""
    refuse_contraction(op, contraction)
    x, pad = op.arg("self").name, op.arg("pad")
    shape = specs[x].shape
    intervals, local = list(region.intervals), [0] * len(pad)
    for pair in range(len(pad) // 2):
        dim = len(shape) - 1 - pair
        window = input_window(
            region[dim], kernel=1, stride=1, padding=pad[2 * pair], dilation=1, size=shape[dim]
        )
        intervals[dim] = window.interval
        local[2 * pair : 2 * pair + 2] = window.before, window.after
    source = Slice(x, Region(tuple(intervals)))
    return Cut(steps=(localised(op, specs, self=source, pad=tuple(local)),), region=region, flops=0)


def _cut_repeat_interleave(op: Operator, specs: Specs, region: Region, contraction: Interval | None) -> Cut:
    """Cut ``repeat_interleave``: repeat the input elements that the region touches, then slice the result."""
    refuse_contraction(op, contraction)
    x, repeats = op.arg("self").name, op.arg("repeats")
    if op.arg("dim") is None:
        return move_whole(op, specs, region, contraction)
    dim = normal_dim(op.arg("dim"), len(region))
    wanted = region[dim]
    source = Interval(wanted.start // repeats, -(-wanted.stop // repeats))
    repeated = localised(
        op, specs, self=Slice(x, region.replace(dim, source)), output_size=source.length * repeats
    )
    part = call(
        "aten.slice.Tensor", self=Result(0), dim=dim, start=wanted.start - source.start * repeats,
        end=wanted.stop - source.start * repeats, step=1,
    )  # fmt: skip
    return Cut(steps=(repeated, part), region=region, flops=0)


def _flat_range(shape: tuple[int, ...], region: Region) -> tuple[int, int]:
    """Return the flat indices ``[start, stop)`` from the first to the last element of a box, row-major."""
    start = stop = 0
    for size, interval in zip(shape, region.intervals, strict=True):
        start, stop = start * size + interval.start, stop * size + interval.stop - 1
    return start, stop + 1


def _box(shape: tuple[int, ...], start: int, stop: int) -> Region:
    """Return the smallest box, contiguous in row-major order, that holds flat indices ``[start, stop)``."""
    intervals: list[Interval] = []
    inner = 1
    for size in shape:
        inner *= size
    for dim, size in enumerate(shape):
        inner //= size
        first, last = start // inner, (stop - 1) // inner
        if first != last:
            rest = (Interval(0, other) for other in shape[dim + 1 :])
            return Region((*intervals, Interval(first, last + 1), *rest))
        intervals.append(Interval(first, first + 1))
        start, stop = start - first * inner, stop - first * inner
    return Region(tuple(intervals))


def _groups(source: tuple[int, ...], target: tuple[int, ...]) -> list[tuple[range, range]]:
    """Split two shapes into runs of dims with equal products, as short as possible."""
    runs = []
    i = j = 0
    while i < len(source) or j < len(target):
        first_i, first_j = i, j
        left = right = 1
        while True:
            if left == right and (i > first_i or j > first_j):
                break
            if j >= len(target) or (i < len(source) and left <= right):
                left *= source[i]
                i += 1
            else:
                right *= target[j]
                j += 1
        runs.append((range(first_i, i), range(first_j, j)))
    return runs


def _cut_view(op: Operator, specs: Specs, region: Region, contraction: Interval | None) -> Cut:
    """Cut any reshape.

    The two shapes are split into runs of dims with equal products. In each run, the region is widened in the
    input and the output shape in turn until it is one contiguous box in both.
    """
    refuse_contraction(op, contraction)
    x = op.arg("self").name
    source, target = specs[x].shape, out_spec(op, specs).shape
    in_dims: list[Interval] = [Interval(0, 1)] * len(source)
    out_dims: list[Interval] = list(region.intervals)
    for run_in, run_out in _groups(source, target):
        shape_in = tuple(source[dim] for dim in run_in)
        shape_out = tuple(target[dim] for dim in run_out)
        box_out = Region(tuple(region[dim] for dim in run_out))
        box_in, box_out = _common_box(shape_in, shape_out, box_out)
        for dim, interval in zip(run_in, box_in.intervals, strict=True):
            in_dims[dim] = interval
        for dim, interval in zip(run_out, box_out.intervals, strict=True):
            out_dims[dim] = interval
    made = Region(tuple(out_dims))
    step: Step = call("aten.reshape.default", self=Slice(x, Region(tuple(in_dims))), shape=made.shape)
    return Cut(steps=(step,), region=made, flops=0)


def _common_box(
    shape_in: tuple[int, ...], shape_out: tuple[int, ...], box_out: Region
) -> tuple[Region, Region]:
    if shape_in == shape_out:
        return box_out, box_out
    start, stop = _flat_range(shape_out, box_out)
    while True:
        box_in = _box(shape_in, start, stop)
        box_out = _box(shape_out, *_flat_range(shape_in, box_in))
        wider = _flat_range(shape_out, box_out)
        if wider == _flat_range(shape_in, box_in):
            return box_in, box_out
        start, stop = wider


_VIEW = Rule(cut=_cut_view, is_view=True)
_PERMUTE = Rule(cut=_cut_permute, is_view=True)
_VIEWS = (
    "view.default", "_unsafe_view.default", "reshape.default", "flatten.using_ints", "unflatten.int",
    "unsqueeze.default", "squeeze.default", "squeeze.dim", "squeeze.dims",
)  # fmt: skip
RULES = {
    **{f"aten.{name}": _VIEW for name in _VIEWS},
    "aten.permute.default": _PERMUTE,
    "aten.transpose.int": _PERMUTE,
    "aten.t.default": _PERMUTE,
    "aten.mT.default": _PERMUTE,
    "aten.expand.default": Rule(cut=_cut_expand, is_view=True),
    "aten.slice.Tensor": Rule(cut=_cut_slice, is_view=True),
    "aten.select.int": Rule(cut=_cut_select, is_view=True),
    "aten.cat.default": Rule(cut=_cut_cat),
    "aten.stack.default": Rule(cut=_cut_stack),
    "aten.constant_pad_nd.default": Rule(cut=_cut_pad),
    "aten.repeat_interleave.self_int": Rule(cut=_cut_repeat_interleave),
}
