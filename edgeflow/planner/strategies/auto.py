"""`auto`: the union of all strategies, searched, and never worse than any of them under the cost model.

1. Every other strategy's plan is a candidate; of the best of them also what they make of fewer devices.
2. Dynamic programming over stretches (`edgeflow.planner.search.dynamic`): for each stretch one device, rows,
   columns or a grid with halos exchanged or recomputed, or heads and hidden columns with sums added directly,
   scattered or at a hub, on subsets of the devices. Searched with everything allowed and with kinds kept
   apart, and for energy with several prices of a second.
3. Local search on the exact prediction, from the best few: shares follow what devices were busy for, one run
   of stretches takes the layout beside it, a device is left out.
4. For latency: of the best few, what others wait for is made first (`edgeflow.planner.layouts.borders`).
5. For throughput: ways that run beside each other, a split on some devices and replicas on the rest.
6. On tiny inputs, everything (`edgeflow.planner.strategies.brute_force`).

Step 2 takes stages as barriers and step 3 stops at a local optimum, so the result carries a lower bound, from
which its gap can be read.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import groupby
from math import inf
from typing import Final

import msgspec

from edgeflow.cost.timeline import predict_programs
from edgeflow.errors import InfeasiblePlanError
from edgeflow.plan.plan import Plan
from edgeflow.plan.stage import Stage
from edgeflow.planner.layouts.borders import borders_first
from edgeflow.planner.layouts.layout import Layout
from edgeflow.planner.search.bound import lower_bound_s
from edgeflow.planner.search.dynamic import Choice, Search
from edgeflow.planner.search.fewer import on_part, parts
from edgeflow.planner.search.groups import grouped
from edgeflow.planner.search.space import shares_of, singles, splits, subsets
from edgeflow.planner.strategies.brute_force import MAX_PLANS, brute_force, num_plans
from edgeflow.planner.strategies.megatron import has_pairs
from edgeflow.planner.task import Run, Strategy, Task, best_of, finish_runs, finish_ways

#: Exact predictions that one local search may make, and how many plans it starts from.
_MAX_STEPS: Final = 2
_MAX_STARTS: Final = 2
#: How far behind the best plan a start may be: local search gains a few per cent.
_WORTH_REFINING: Final = 1.1
#: How many times as long as the plan that it changes a try may be estimated to take.
_WORTH_TRYING: Final = 1.02
#: Prices of a second, in joules, for energy: from "only energy counts" upwards.
_PRICES_J_PER_S: Final = (0.0, 1.0, 10.0, 100.0)


def auto(task: Task, rivals: Sequence[Strategy]) -> Plan:
    """Return the best plan that was found, with the others as candidates.

    Args:
        rivals: Strategies whose plans are always candidates.

    Raises:
        InfeasiblePlanError: If nothing fits; names the binding device and the bytes.
    """
    plans, failures = explore(task, rivals)
    best = best_of(plans, objective=task.objective, strategy="auto", failures=failures)
    return best.reweighed(lower_bound_s=lower_bound_s(task))


def explore(
    task: Task, rivals: Sequence[Strategy]
) -> tuple[list[Plan], list[tuple[str, InfeasiblePlanError]]]:
    """Return every plan that `auto` weighs, and why others could not be."""
    pool = _Pool(task)
    made = [(rival, pool.add(rival.__name__, partial(rival, task.within(pool.least_s)))) for rival in rivals]
    _on_fewer(task, pool, [(rival, plan) for rival, plan in made if plan is not None])
    if task.graph.operators and len(task.cluster.devices) > 1:
        _search(task, pool)
        if num_plans(task) <= MAX_PLANS:
            pool.add("brute_force", partial(brute_force, task))
        if task.objective.kind == "latency":
            _borders_first(task, pool)
        if task.objective.kind == "throughput":
            for label, runs in grouped(task):
                pool.add(label, partial(finish_runs, task, runs, strategy="auto", label=label))
            _beside_each_other(task, pool)
    return pool.plans, pool.failures


class _Pool:
    """Plans that were found, and what could not be."""

    def __init__(self, task: Task) -> None:
        self.plans: list[Plan] = []
        self.failures: list[tuple[str, InfeasiblePlanError]] = []
        self._task = task

    @property
    def least_s(self) -> float:
        """Latency of the best plan so far; infinite where that is not what plans are weighed by."""
        if self._task.objective.kind != "latency":
            return inf
        return min((plan.predicted_latency_s for plan in self.plans), default=inf)

    def add(self, label: str, make: Callable[[], Plan]) -> Plan | None:
        try:
            plan = make()
        except InfeasiblePlanError as error:
            self.failures.append((label, error))
            return None
        self.plans.append(plan)
        return plan


def _on_fewer(task: Task, pool: _Pool, made: Sequence[tuple[Strategy, Plan]]) -> None:
    """Add what the best strategy that splits makes of fewer devices, the nearest, until that is worse."""
    split = [(rival, plan) for rival, plan in made if len(plan.devices) > 1]
    if not split:
        return
    rival, best = min(split, key=lambda item: task.objective.score(item[1]))
    for ranks in parts(task, min(pool.plans, key=task.objective.score), best):
        plan = pool.add(f"{rival.__name__} on {len(ranks)} devices", partial(on_part, task, ranks, rival))
        if plan is None or task.objective.score(plan) > task.objective.score(best):
            return
        best = plan


def _borders_first(task: Task, pool: _Pool) -> None:
    """Add the best plans with what others wait for made first."""
    distinct: dict[tuple[Stage, ...], Plan] = {}
    for plan in sorted(pool.plans, key=task.objective.score):
        distinct.setdefault(plan.stages, plan)
    for plan in list(distinct.values())[:_MAX_STARTS]:
        with contextlib.suppress(InfeasiblePlanError):  # it was there without, and fits
            changed = borders_first(task, plan)
            if changed is not None:
                pool.plans.append(changed)


def _search(task: Task, pool: _Pool) -> None:
    layouts = singles(task)
    for devices in subsets(task):
        layouts += splits(task, devices, shares_of(task, devices))
    search = Search(task.estimator, layouts)
    found: list[tuple[Plan, Choice]] = []
    seen: set[Choice] = set()
    for label, choice in _choices(task, search, layouts):
        if choice not in seen:
            seen.add(choice)
            plan = pool.add(label, partial(_plan, task, choice, label))
            if plan is not None:
                found.append((plan, choice))
    found.sort(key=lambda item: task.objective.score(item[0]))
    best = min((task.objective.score(plan) for plan in pool.plans), default=(0.0, inf, 0.0))
    for plan, choice in found[:_MAX_STARTS]:
        missed_s, figure, _ = task.objective.score(plan)
        if missed_s <= best[0] and figure > _WORTH_REFINING * best[1]:
            continue
        better = _refine(task, search, plan, choice)
        if better is not plan:
            pool.plans.append(better)


def _choices(task: Task, search: Search, layouts: Sequence[Layout]) -> Iterator[tuple[str, Choice]]:
    """Results of several searches: everything, and kinds kept apart.

    The one that mixes on purpose, tensor-parallel wherever a column-parallel product meets a row-parallel one
    and rows elsewhere, needs the least memory: it remains when copies of all weights do not fit.
    """
    count = len(task.analysis.stretches)
    rows = [layout for layout in layouts if layout.kind in ("rows", "single")]
    tensor = [layout for layout in layouts if layout.kind in ("tensor", "single")]
    strictly = [layout for layout in layouts if layout.kind == "tensor"]
    if task.objective.kind == "energy":
        for price in _PRICES_J_PER_S:
            found = search.best([layouts] * count, seconds=price, joules=1.0)
            yield f"search with {price:g} J a second", found
    yield "search over all layouts", search.best([layouts] * count)
    # By estimates many devices may look better than few, and be worse: the exact prediction decides.
    size = max(len(layout.devices) for layout in layouts) // 2
    while size >= 2:
        few = [layout for layout in layouts if len(layout.devices) <= size]
        yield f"search over layouts of at most {size} devices", search.best([few] * count)
        size //= 2
    yield "search over rows and single", search.best([rows] * count)
    yield "search over tensor and single", search.best([tensor] * count)
    if strictly:
        paired = [strictly if has_pairs(task, stretch) else rows for stretch in task.analysis.stretches]
        yield "search over rows, and tensor for pairs", search.best(paired)


def _plan(task: Task, choice: Choice, label: str) -> Plan:
    runs = [Run(stretch, layout) for stretch, layout in zip(task.analysis.stretches, choice, strict=True)]
    return finish_runs(task, runs, strategy="auto", label=label)


def _refine(task: Task, search: Search, plan: Plan, choice: Choice) -> Plan:
    """Hill-climb on the exact prediction; for latency, what is estimated to be much slower is not tried."""
    best, steps, seen = plan, 0, {choice}
    # Of a period, or of joules, the estimated seconds of one request say nothing: then all are alike.
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
                candidate = _plan(task, changed, "search, refined")
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
    """Changed choices, the most promising first: of those whose figure is known, the least."""
    changed = [_evened_out(task, plan, choice)]
    spans = _spans(choice)
    for position, (start, stop) in enumerate(spans):
        for other in (position - 1, position + 1):
            if 0 <= other < len(spans):
                replacement = choice[spans[other][0]]
                changed.append((*choice[:start], *[replacement] * (stop - start), *choice[stop:]))
    # What these layouts take is known; to estimate other shares takes as long as to try some.
    yield from sorted(changed, key=figure)
    for rank in sorted({rank for layout in choice if layout.kind != "single" for rank in layout.devices}):
        yield tuple(_with_share(layout, rank, 0.0) for layout in choice)
    for rank in sorted({rank for layout in choice if layout.kind != "single" for rank in layout.devices}):
        for factor in (0.9, 1.1):
            yield tuple(_with_share(layout, rank, factor) for layout in choice)


def _spans(choice: Choice) -> list[tuple[int, int]]:
    """Runs of stretches in one layout."""
    spans = []
    for _, span in groupby(range(len(choice)), key=lambda index: choice[index]):
        members = list(span)
        spans.append((members[0], members[-1] + 1))
    return spans


def _evened_out(task: Task, plan: Plan, choice: Choice) -> Choice:
    """Shares such that all would have been busy equally long, had time been in proportion to the share."""
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


def _beside_each_other(task: Task, pool: _Pool) -> None:
    """Add mixtures: each plan found so far beside replicas on the devices that it leaves alone."""
    alone = {plan.devices[0]: plan for plan in pool.plans if len(plan.devices) == 1 and not plan.replicas}
    for plan in [item for item in pool.plans if len(item.devices) > 1 and not item.replicas]:
        others = [whole for rank, whole in alone.items() if rank not in plan.devices]
        if others:
            label = f"{plan.chosen}, beside {len(others)} replicas"
            pool.add(label, partial(_ways, task, [plan, *others], label))


def _ways(task: Task, ways: Sequence[Plan], label: str) -> Plan:
    return finish_ways(task, ways, strategy="auto", label=label)
