"""Local search on the exact prediction, from a choice of layouts that dynamic programming has found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import groupby
from typing import Final

import msgspec

from edgeflow.cost.timeline import predict_programs
from edgeflow.errors import InfeasiblePlanError
from edgeflow.plan.plan import Plan
from edgeflow.planner.layouts.layout import Layout
from edgeflow.planner.search.dynamic import Choice, Search
from edgeflow.planner.task import Run, Task, finish_runs

#: Exact predictions that one local search may make.
_MAX_STEPS: Final = 2
#: A change is not tried if its estimate exceeds that of the plan it changes by more than this factor.
_WORTH_TRYING: Final = 1.02


def plan_of(task: Task, choice: Choice, label: str) -> Plan:
    """Return the plan with one layout per stretch."""
    runs = [Run(stretch, layout) for stretch, layout in zip(task.analysis.stretches, choice, strict=True)]
    return finish_runs(task, runs, strategy="auto", label=label)


def refine(task: Task, search: Search, plan: Plan, choice: Choice) -> Plan:
    """Hill-climb on the exact prediction; for latency, changes estimated to be much slower are not tried."""
    best, steps, seen = plan, 0, {choice}
    # Estimated seconds of one request say nothing about a period or joules: then all choices are alike.
    figure = search.seconds if task.objective.kind == "latency" else lambda choice: 0.0
    limit = _WORTH_TRYING * figure(choice)
    improved = True
    while improved and steps < _MAX_STEPS:
        improved = False
        for changed in _neighbours(task, best, choice, figure):
            if steps >= _MAX_STEPS:
                break
            if changed in seen:
                continue
            seen.add(changed)
            if figure(changed) > limit:
                continue
            steps += 1
            try:
                candidate = plan_of(task, changed, "search, refined")
            except InfeasiblePlanError:
                continue
            if task.objective.score(candidate) < task.objective.score(best):
                best, choice, improved = candidate, changed, True
                limit = _WORTH_TRYING * figure(choice)
                break
    return best


def _neighbours(
    task: Task, plan: Plan, choice: Choice, figure: Callable[[Choice], float]
) -> Iterator[Choice]:
    """Yield changed choices, the most promising first."""
    changed = [_evened_out(task, plan, choice)]
    spans = _spans(choice)
    for position, (start, stop) in enumerate(spans):
        for other in (position - 1, position + 1):
            if 0 <= other < len(spans):
                replacement = choice[spans[other][0]]
                changed.append((*choice[:start], *[replacement] * (stop - start), *choice[stop:]))
    # Layouts that are in use have estimates; estimating new shares takes as long as trying them.
    yield from sorted(changed, key=figure)
    for rank in sorted({rank for layout in choice if layout.kind != "single" for rank in layout.devices}):
        yield tuple(_with_share(layout, rank, 0.0) for layout in choice)
    for rank in sorted({rank for layout in choice if layout.kind != "single" for rank in layout.devices}):
        for factor in (0.9, 1.1):
            yield tuple(_with_share(layout, rank, factor) for layout in choice)


def _spans(choice: Choice) -> list[tuple[int, int]]:
    """Return runs of stretches in one layout, as ``[start, stop)``."""
    spans = []
    for _, span in groupby(range(len(choice)), key=lambda index: choice[index]):
        members = list(span)
        spans.append((members[0], members[-1] + 1))
    return spans


def _evened_out(task: Task, plan: Plan, choice: Choice) -> Choice:
    """Return shares nearer to those with which all devices would be busy equally long."""
    busy_s = predict_programs(plan.programs, task.cost).compute_s
    changed = []
    for layout in choice:
        if layout.kind == "single":
            changed.append(layout)
            continue
        mean = sum(busy_s.get(rank, 0.0) for rank in layout.devices) / len(layout.devices)
        shares = tuple(
            share * (mean / busy_s[rank]) ** 0.7 if busy_s.get(rank) else share
            for rank, share in zip(layout.devices, layout.shares, strict=True)
        )
        changed.append(msgspec.structs.replace(layout, shares=shares))
    return tuple(changed)


def _with_share(layout: Layout, rank: int, factor: float) -> Layout:
    if layout.kind == "single" or rank not in layout.devices:
        return layout
    shares = tuple(
        share * factor if device == rank else share
        for device, share in zip(layout.devices, layout.shares, strict=True)
    )
    return msgspec.structs.replace(layout, shares=shares) if any(shares) else layout
