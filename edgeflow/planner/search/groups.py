"""Pipelines whose stages are groups of devices: each group splits its part of the model.

For throughput, where one device is too small for its part, or stretches are too coarse for one stage per
device. A few groupings are tried: similar devices together, or fast ones with slow ones. A dynamic programme
decides which stretches each group gets and how it splits them: it minimises the estimated seconds of the
busiest group, within the memory that weights take. Hand-overs and buffers are left to the exact prediction.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, pairwise
from typing import Final

import msgspec
import numpy as np

from edgeflow.planner.layouts.layout import Layout
from edgeflow.planner.search.space import shares_of, splits
from edgeflow.planner.task import Run, Task

#: How many stages are tried.
_COUNTS: Final = (2, 3, 4)

Groups = tuple[tuple[int, ...], ...]
Vector = np.ndarray[tuple[int], np.dtype[np.float64]]


class _Stage(msgspec.Struct, frozen=True):
    """Stretches ``[start, stop)`` in one layout."""

    start: int
    stop: int
    layout: Layout


class _Sums(msgspec.Struct, frozen=True):
    """Prefix sums of one layout's seconds over stretches, and the bytes of weights that fit.

    Attributes:
        room_bytes: The most weights of which the tightest device of the layout can hold its share.
    """

    seconds: Vector
    room_bytes: float


def grouped(task: Task) -> Iterator[tuple[str, list[Run]]]:
    """Yield the best pipeline of each way to group the devices: a label, and its runs."""
    estimator = task.estimator
    weights = np.array(task.analysis.weight_bytes(), np.float64)
    sums: dict[Layout, _Sums] = {}
    for groups in groupings(task):
        layouts = [_layouts(task, group) for group in groups]
        for layout in chain.from_iterable(layouts):
            if layout not in sums:
                each = [estimator.estimate(part, layout).seconds for part in task.analysis.stretches]
                sums[layout] = _Sums(np.concatenate([[0.0], np.cumsum(each)]), _room_bytes(task, layout))
        stages = _divide(layouts, sums, weights)
        if stages is not None:
            label = f"pipeline of {len(groups)} groups: {_sizes(groups)} devices"
            yield label, [Run(task.analysis.operators_of(s.start, s.stop), s.layout) for s in stages]


def _room_bytes(task: Task, layout: Layout) -> float:
    """Each device of a tensor-parallel layout holds its share of the weights, of any other all of them."""
    memory = [float(task.cluster.devices[rank].memory_bytes) for rank in layout.devices]
    if layout.kind != "tensor":
        return min(memory)
    total = sum(layout.shares)
    return min(size * total / share for size, share in zip(memory, layout.shares, strict=True) if share)


def groupings(task: Task) -> tuple[Groups, ...]:
    """Return ways to divide all devices into fewer groups than devices, with about equal sums of speed.

    Groups of neighbours in the order of speed, first the fast ones and first the slow ones; and groups that
    each have fast and slow ones.
    """
    found: dict[Groups, None] = {}
    for count in _COUNTS:
        if count < len(task.fastest):
            near = _neighbours(task, count)
            found |= dict.fromkeys((near, near[::-1], _mixed(task, count)))
    return tuple(found)


def _neighbours(task: Task, count: int) -> Groups:
    """Cut the order of speeds where the sums come nearest to equal shares; no group is empty."""
    order = task.fastest
    sums = np.cumsum([task.speeds[rank] for rank in order])
    bounds = [0]
    for index in range(1, count):
        least, most = bounds[-1] + 1, len(order) - (count - index)
        nearest = int(np.argmin(np.abs(sums - sums[-1] * index / count))) + 1
        bounds.append(min(max(nearest, least), most))
    bounds.append(len(order))
    return tuple(tuple(sorted(order[a:b])) for a, b in pairwise(bounds))


def _mixed(task: Task, count: int) -> Groups:
    """Each device in turn goes to the group that is slowest so far."""
    members: list[list[int]] = [[] for _ in range(count)]
    for rank in task.fastest:
        min(members, key=lambda group: sum(task.speeds[other] for other in group)).append(rank)
    return tuple(tuple(sorted(group)) for group in members)


def _layouts(task: Task, group: tuple[int, ...]) -> list[Layout]:
    alone = Layout(kind="single", devices=(max(group, key=lambda rank: (task.speeds[rank], -rank)),))
    return [alone, *splits(task, group, shares_of(task, group))] if len(group) > 1 else [alone]


def _divide(
    layouts: Sequence[Sequence[Layout]], sums: Mapping[Layout, _Sums], weights: Vector
) -> list[_Stage] | None:
    """Give each group in turn a run of stretches, or none, so that the slowest group takes the least time.

    None where the weights do not fit.
    """
    count = len(weights) - 1
    best = np.full(count + 1, np.inf)
    best[0] = 0.0
    back: list[list[tuple[int, Layout]]] = []
    for choices in layouts:
        now = np.full(count + 1, np.inf)
        steps = [(0, choices[0])] * (count + 1)
        for stop in range(count + 1):
            held = weights[stop] - weights[: stop + 1]
            for layout in choices:
                seconds = sums[layout].seconds[stop] - sums[layout].seconds[: stop + 1]
                value = np.maximum(best[: stop + 1], seconds)
                value[held > sums[layout].room_bytes] = np.inf
                start = int(np.argmin(value))
                if value[start] < now[stop]:
                    now[stop], steps[stop] = value[start], (start, layout)
        best = now
        back.append(steps)
    if not np.isfinite(best[-1]):
        return None
    stages, stop = [], count
    for steps in reversed(back):
        start, layout = steps[stop]
        if start < stop:
            stages.append(_Stage(start, stop, layout))
        stop = start
    return stages[::-1]


def _sizes(groups: Groups) -> str:
    return "+".join(str(len(group)) for group in groups)
