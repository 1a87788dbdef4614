"""Exploring the union of all strategies: every plan that `auto` and the Pareto front choose from."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from math import inf
from typing import Final

from edgeflow.errors import InfeasiblePlanError
from edgeflow.plan.plan import Plan
from edgeflow.plan.stage import Stage
from edgeflow.planner.layouts.layout import Layout
from edgeflow.planner.search.borders import borders_first
from edgeflow.planner.search.dynamic import Choice, Search
from edgeflow.planner.search.exhaustive import MAX_PLANS, exhaustive, num_plans
from edgeflow.planner.search.fewer import on_part, parts
from edgeflow.planner.search.groups import grouped
from edgeflow.planner.search.pairs import has_pairs
from edgeflow.planner.search.refine import plan_of, refine
from edgeflow.planner.search.space import shares_of, singles, splits, subsets
from edgeflow.planner.task import Strategy, Task, finish_runs, finish_ways

#: From how many plans local search, and borders made first, start.
_MAX_STARTS: Final = 2
#: How far behind the best plan a start may be: local search gains a few per cent.
_WORTH_REFINING: Final = 1.1
#: Prices of a second, in joules, for energy: from "only energy counts" upwards.
_PRICES_J_PER_S: Final = (0.0, 1.0, 10.0, 100.0)


def explore(
    task: Task, rivals: Sequence[Strategy]
) -> tuple[list[Plan], list[tuple[str, InfeasiblePlanError]]]:
    """Return every plan that `auto` compares, and the failures by label."""
    pool = _Pool(task)
    made = [(rival, pool.add(rival.__name__, partial(rival, task.within(pool.least_s)))) for rival in rivals]
    _on_fewer(task, pool, [(rival, plan) for rival, plan in made if plan is not None])
    if task.graph.operators and len(task.cluster.devices) > 1:
        _search(task, pool)
        if num_plans(task) <= MAX_PLANS:
            pool.add("brute_force", partial(exhaustive, task))
        if task.objective.kind == "latency":
            _borders_first(task, pool)
        if task.objective.kind == "throughput":
            for label, runs in grouped(task):
                pool.add(label, partial(finish_runs, task, runs, strategy="auto", label=label))
            _beside_each_other(task, pool)
    return pool.plans, pool.failures


class _Pool:
    """The plans found so far, and the failures."""

    def __init__(self, task: Task) -> None:
        self.plans: list[Plan] = []
        self.failures: list[tuple[str, InfeasiblePlanError]] = []
        self._task = task

    @property
    def least_s(self) -> float:
        """Latency of the best plan so far; infinite if the objective is another one."""
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
    """Add the best splitting strategy's plans on ever fewer devices, until they get worse."""
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
    """Add the best plans with borders first."""
    distinct: dict[tuple[Stage, ...], Plan] = {}
    for plan in sorted(pool.plans, key=task.objective.score):
        distinct.setdefault(plan.stages, plan)
    for plan in list(distinct.values())[:_MAX_STARTS]:
        with contextlib.suppress(InfeasiblePlanError):  # the plan without borders first fits
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
            plan = pool.add(label, partial(plan_of, task, choice, label))
            if plan is not None:
                found.append((plan, choice))
    found.sort(key=lambda item: task.objective.score(item[0]))
    best = min((task.objective.score(plan) for plan in pool.plans), default=(0.0, inf, 0.0))
    for plan, choice in found[:_MAX_STARTS]:
        missed_s, figure, _ = task.objective.score(plan)
        if missed_s <= best[0] and figure > _WORTH_REFINING * best[1]:
            continue
        better = refine(task, search, plan, choice)
        if better is not plan:
            pool.plans.append(better)


def _choices(task: Task, search: Search, layouts: Sequence[Layout]) -> Iterator[tuple[str, Choice]]:
    """Results of several searches: everything, and kinds kept apart.

    The last one, tensor-parallel in stretches with pairs and rows elsewhere, needs the least memory: it
    remains when copies of all weights do not fit.
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
        paired = [
            strictly if has_pairs(task.analysis, stretch) else rows for stretch in task.analysis.stretches
        ]
        yield "search over rows, and tensor for pairs", search.best(paired)


def _beside_each_other(task: Task, pool: _Pool) -> None:
    """Add mixtures: each plan found so far beside replicas on the devices that it does not use."""
    alone = {plan.devices[0]: plan for plan in pool.plans if len(plan.devices) == 1 and not plan.replicas}
    for plan in [item for item in pool.plans if len(item.devices) > 1 and not item.replicas]:
        others = [whole for rank, whole in alone.items() if rank not in plan.devices]
        if others:
            label = f"{plan.chosen}, beside {len(others)} replicas"
            pool.add(label, partial(_ways, task, [plan, *others], label))


def _ways(task: Task, ways: Sequence[Plan], label: str) -> Plan:
    return finish_ways(task, ways, strategy="auto", label=label)
