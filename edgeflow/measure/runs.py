"""Choose and time runs of consecutive operators.

Runs are all operators, halves, quarters, down to pairs: each part is divided near the middle of its time
where the fewest bytes cross. At every level, runs across each border are added, since stages of a plan seldom
begin and end at these borders. Runs that do not overlap are timed in one pass, so that caches are as in a
request and a pass takes no longer than the model.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Final

import numpy as np

from edgeflow.cost.runs import Span
from edgeflow.graph.ir import ModelGraph
from edgeflow.kernels import Executor
from edgeflow.measure.kernels import Clock, measure_round, net_s, prepare
from edgeflow.plan.stage_kernels import StageKernels
from edgeflow.sharding.cut import iter_slices
from edgeflow.sharding.region import Region

#: Least number of timed repetitions of a pass; a median of fewer is unreliable.
_MIN_RUNS: Final = 3
#: Larger than nearly any last-level cache.
_DISPLACING_BYTES: Final = 64 << 20
#: Each half of a divided part has at least this share of its time, where operators allow.
_LEAST_SHARE: Final = 0.25

#: Positions ``[start, stop)`` of operators.
Bounds = tuple[int, int]


def measure_runs(
    graph: ModelGraph,
    whole: StageKernels,
    passes: Sequence[Sequence[Bounds]],
    executor: Executor,
    *,
    budget_s: float,
    clock: Clock,
    base_s: float,
    on_run: Callable[[int], None] = lambda done: None,
) -> tuple[Span, ...]:
    """Time runs of a graph's operators, pass by pass, as many as the budget allows.

    Args:
        whole: Kernels of all operators, whole, in order.
        budget_s: No pass begins after so many seconds.
        base_s: Seconds to start a `Compute`, which are subtracted.
        on_run: Called with the number of runs done.
    """
    deadline_s = time.perf_counter() + budget_s
    # A pass may be short, and would find its own weights in the caches the second time.
    displacing = np.ones(_DISPLACING_BYTES, np.uint8)
    spans: list[Span] = []
    for index, bounds in enumerate(passes):
        left_s = deadline_s - time.perf_counter()
        if left_s <= 0:
            break
        group = [prepare(graph, run_of(graph, whole, start, stop), executor) for start, stop in bounds]
        share_s = left_s / (len(passes) - index)
        seconds = measure_round(
            group, budget_s=share_s, clock=clock, min_runs=_MIN_RUNS, between=displacing.max
        )
        spans += [
            Span(start, stop, net_s(taken, base_s))
            for (start, stop), taken in zip(bounds, seconds, strict=True)
        ]
        on_run(len(spans))
    return tuple(spans)


def run_passes(graph: ModelGraph, alone_s: Sequence[float]) -> list[list[Bounds]]:
    """Return runs of two or more operators in passes of non-overlapping runs, longest runs first.

    Args:
        alone_s: Seconds of each operator alone, in order.
    """
    passes: list[list[Bounds]] = []
    taken: list[int] = []
    for start, stop in dict.fromkeys(_by_level(graph, alone_s)):
        mask = (1 << stop) - (1 << start)
        index = next((i for i, held in enumerate(taken) if not held & mask), len(taken))
        if index == len(taken):
            passes.append([])
            taken.append(0)
        passes[index].append((start, stop))
        taken[index] |= mask
    return [sorted(bounds) for bounds in passes]


def _by_level(graph: ModelGraph, alone_s: Sequence[float]) -> Iterator[Bounds]:
    before = [0.0]
    for seconds in alone_s:
        before.append(before[-1] + seconds)
    parts: list[Bounds] = [(0, len(alone_s))] if alone_s else []
    while any(stop - start > 1 for start, stop in parts):
        yield from ((start, stop) for start, stop in parts if stop - start > 1)
        yield from ((start, stop) for (start, _), (_, stop) in pairwise(parts))
        parts = [half for part in parts for half in _halves(graph, before, part)]
    yield from ((start, stop) for (start, _), (_, stop) in pairwise(parts))


def _halves(graph: ModelGraph, before: Sequence[float], part: Bounds) -> list[Bounds]:
    """Divide a part near the middle of its time where the fewest bytes cross."""
    start, stop = part
    if stop - start < 2:
        return [part]
    middle = (before[start] + before[stop]) / 2
    slack = (before[stop] - before[start]) * (0.5 - _LEAST_SHARE)
    nearest = min(range(start + 1, stop), key=lambda cut: abs(before[cut] - middle))
    near = [cut for cut in range(start + 1, stop) if abs(before[cut] - middle) <= slack] or [nearest]
    cut = min(near, key=lambda cut: (graph.alive_bytes[cut], abs(before[cut] - middle)))
    return [(start, cut), (cut, stop)]


def run_of(graph: ModelGraph, whole: StageKernels, start: int, stop: int) -> StageKernels:
    """Return the kernels of some consecutive operators, which make all of their results whole.

    Results are whole even where later operators need only a part, as when each is measured alone.
    """
    kernels = whole.kernels[start:stop]
    inside = {kernel.operator for kernel in kernels}
    made = {name: region for kernel in kernels for name, region in kernel.outputs if name}
    read = dict.fromkeys(item.tensor for kernel in kernels for item in iter_slices(kernel.steps))
    leaving = tuple(
        (name, region)
        for name, region in made.items()
        if name in graph.outputs or any(reader.name not in inside for reader in graph.consumers.get(name, ()))
    )
    return StageKernels(
        kernels=kernels,
        needs=tuple(
            (name, Region.full(graph.specs[name].shape))
            for name in read
            if name not in made and name not in graph.weights
        ),
        outputs=leaving or tuple(made.items()),
        weights=tuple(item for item in whole.weights if item.tensor in read),
        peak_bytes=0,
    )
