"""Operators that copy each output element from one input element, by a fixed map of positions per dim.

Flip, roll, repeat, reflecting, replicating and circular padding, channel shuffle, nearest-neighbour
resampling: a rule here is only the map. The slice to read is the hull of the mapped positions; if they are
not consecutive, the local call is an ``index_select``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from edgeflow.graph.ir import Operator
from edgeflow.sharding.cut import Cut, Literal, Result, Slice, Step
from edgeflow.sharding.region import Interval, Region
from edgeflow.sharding.rules.base import (
    Rule,
    Specs,
    call,
    cut_whole,
    normal_dim,
    out_spec,
    refuse_contraction,
)

#: Input positions per output dim; None if they are the output positions.
Tables = Sequence[Sequence[int] | None]
#: (operator, input shape, output shape) -> tables, or None if the map does not act on each dim separately.
Maps = Callable[[Operator, tuple[int, ...], tuple[int, ...]], Tables | None]


def _rule(maps: Maps, *, source: str = "self") -> Rule:
    def cut(op: Operator, specs: Specs, region: Region, contraction: Interval | None) -> Cut:
        refuse_contraction(op, contraction)
        x = op.arg(source).name
        positions = maps(op, specs[x].shape, out_spec(op, specs).shape)
        if positions is None:
            return cut_whole(op, specs, region, contraction)
        return gather(x, region, positions, num_added=len(region) - specs[x].ndim)

    return Rule(cut=cut)


def gather(tensor: str, region: Region, positions: Tables, *, num_added: int = 0) -> Cut:
    """Return the cut that makes ``region`` by reading ``positions`` along each dim.

    The first ``num_added`` output dims (of `repeat`) are missing in the input: the result is repeated along
    them.
    """
    intervals: list[Interval] = []
    selections: list[tuple[int, tuple[int, ...]]] = []
    for dim in range(num_added, len(region)):
        wanted, table = region[dim], positions[dim]
        if table is None:
            intervals.append(wanted)
            continue
        chosen = [int(position) for position in table[wanted.start : wanted.stop]]
        hull = Interval(min(chosen), max(chosen) + 1)
        intervals.append(hull)
        local = tuple(position - hull.start for position in chosen)
        if local != tuple(range(hull.length)):
            selections.append((dim - num_added, local))
    source = Slice(tensor, Region(tuple(intervals)))
    steps: list[Step] = []
    for dim, local in selections:
        steps.append(
            call(
                "aten.index_select.default",
                self=Result(len(steps) - 1) if steps else source,
                dim=dim,
                index=Literal((len(local),), local, "int64"),
            )
        )
    if num_added or not steps:
        # `expand` adds the leading dims; without any, it is the cheapest call that returns its input.
        steps.append(
            call(
                "aten.expand.default",
                self=Result(len(steps) - 1) if steps else source,
                size=region.shape,
                implicit=False,
            )
        )
    return Cut(steps=tuple(steps), region=region, flops=0)


def _flip(op: Operator, source: tuple[int, ...], target: tuple[int, ...]) -> Tables:
    dims = {normal_dim(int(dim), len(source)) for dim in op.arg("dims")}
    return [range(size)[::-1] if dim in dims else None for dim, size in enumerate(source)]


def _roll(op: Operator, source: tuple[int, ...], target: tuple[int, ...]) -> Tables | None:
    if not op.arg("dims"):
        return None  # without dims, torch rolls the flattened tensor
    shifts = {
        normal_dim(int(dim), len(source)): int(shift)
        for dim, shift in zip(op.arg("dims"), op.arg("shifts"), strict=True)
    }
    return [
        [(index - shifts[dim]) % size for index in range(size)] if dim in shifts else None
        for dim, size in enumerate(source)
    ]


def _repeat(op: Operator, source: tuple[int, ...], target: tuple[int, ...]) -> Tables:
    added = len(target) - len(source)
    return [
        None if dim < added or size == source[dim - added] else [i % source[dim - added] for i in range(size)]
        for dim, size in enumerate(target)
    ]


def _padding(mode: str, *, key: str = "padding") -> Maps:
    """Return the map of padding that copies input elements; negative padding crops."""

    def maps(op: Operator, source: tuple[int, ...], target: tuple[int, ...]) -> Tables:
        padding = op.arg(key)
        tables: list[Sequence[int] | None] = [None] * len(source)
        for pair in range(len(padding) // 2):
            dim = len(source) - 1 - pair
            before, after = padding[2 * pair : 2 * pair + 2]
            # Circular padding repeats only what cropping keeps; the other modes do not depend on `kept`.
            kept = source[dim] + min(before, 0) + min(after, 0)
            tables[dim] = [
                (index - max(before, 0)) % kept + max(-before, 0)
                if mode == "circular"
                else _mirrored(index - before, source[dim] - 1, reflects=mode == "reflect")
                for index in range(target[dim])
            ]
        return tables

    return maps


def _mirrored(position: int, last: int, *, reflects: bool) -> int:
    """Return the element of ``0..last`` that padding puts at ``position``, which may lie outside."""
    if reflects:
        position = abs(position)
        position = position if position <= last else 2 * last - position
    return min(max(position, 0), last)


def _pad(op: Operator, source: tuple[int, ...], target: tuple[int, ...]) -> Tables | None:
    """Return the map of ``F.pad``; constant padding is another operator."""
    mode = op.arg("mode")
    if mode not in ("reflect", "replicate", "circular"):
        return None
    return _padding(mode, key="pad")(op, source, target)


def _channel_shuffle(op: Operator, source: tuple[int, ...], target: tuple[int, ...]) -> Tables:
    groups, channels = op.arg("groups"), source[1]
    order = [index % groups * (channels // groups) + index // groups for index in range(channels)]
    return [order if dim == 1 else None for dim in range(len(source))]


def _nearest(exact: bool) -> Maps:
    """Return the map of positions as ATen computes them: in float32, from the given scale factor, if any."""

    def maps(op: Operator, source: tuple[int, ...], target: tuple[int, ...]) -> Tables:
        factors = op.arg("scale_factors")
        tables: list[Sequence[int] | None] = [None, None]
        for dim in range(2, len(source)):
            repeats, rest = divmod(target[dim], source[dim])
            if len(source) == 4 and not exact and rest == 0 and repeats in (1, 2):
                # Only for two spatial dims, ATen copies or doubles by size and ignores the scale factor.
                tables.append([index // repeats for index in range(target[dim])])
                continue
            given = factors[dim - 2] if factors is not None else None
            scale = np.float32(1.0 / given) if given else np.float32(source[dim]) / np.float32(target[dim])
            index = np.arange(target[dim], dtype=np.float32) + np.float32(0.5 if exact else 0.0)
            chosen = np.minimum(np.floor(index * scale).astype(np.int64), source[dim] - 1)
            tables.append([int(position) for position in chosen])
        return tables

    return maps


RULES = {
    "aten.flip.default": _rule(_flip),
    "aten.roll.default": _rule(_roll),
    "aten.repeat.default": _rule(_repeat),
    "aten.pad.default": _rule(_pad),
    "aten.channel_shuffle.default": _rule(_channel_shuffle),
    **{f"aten.reflection_pad{n}d.default": _rule(_padding("reflect")) for n in (1, 2, 3)},
    **{f"aten.replication_pad{n}d.default": _rule(_padding("replicate")) for n in (1, 2, 3)},
    **{f"aten.upsample_nearest{n}d.vec": _rule(_nearest(exact=False), source="input") for n in (1, 2, 3)},
    **{
        f"aten._upsample_nearest_exact{n}d.vec": _rule(_nearest(exact=True), source="input")
        for n in (1, 2, 3)
    },
}
