"""Exhaustive search: every layout for every stretch, each plan predicted exactly; for tiny inputs.

The space: one device; rows and grids with halos exchanged or recomputed; tensor-parallel with every way to
add partial sums; on every subset of the devices, with shares in proportion to speed and with equal ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, product
from typing import Final

from edgeflow.errors import InfeasiblePlanError
from edgeflow.plan.plan import Plan
from edgeflow.planner.layouts.layout import Layout
from edgeflow.planner.search.space import shares_of, splits
from edgeflow.planner.task import Run, Task, best_of, finish_runs, whole_on

MAX_PLANS: Final = 1500


def exhaustive(task: Task) -> Plan:
    """Return the best of all plans of the space.

    Raises:
        InfeasiblePlanError: If there are more than `MAX_PLANS`, with both numbers; or none fits the devices'
            memory.
    """
    count = min(num_plans(task), 10**300)  # more is no float
    if count > MAX_PLANS:
        raise InfeasiblePlanError(
            f"brute_force is for tiny inputs: {len(task.analysis.stretches)} stretches on "
            f"{len(task.cluster.ranks)} devices have at least {float(count):.2g} plans, "
            f"at most {MAX_PLANS:,} are tried",
            constraint="plans",
            required=float(count),
            available=MAX_PLANS,
        )
    plans: list[Plan] = []
    failures: list[tuple[str, InfeasiblePlanError]] = []
    seen: set[object] = set()
    for choice in product(all_layouts(task), repeat=len(task.analysis.stretches)):
        runs = [Run(stretch, layout) for stretch, layout in zip(task.analysis.stretches, choice, strict=True)]
        try:
            plan = finish_runs(task, runs, strategy="brute_force", label="the best of all")
        except InfeasiblePlanError as error:
            failures.append(("the best of all", error))
            continue
        if plan.stages not in seen:
            seen.add(plan.stages)
            plans.append(plan)
    alone, _ = whole_on(task, strategy="brute_force")
    return best_of([*plans, *alone], objective=task.objective, strategy="brute_force", failures=failures)


def num_plans(task: Task) -> int:
    """How many plans the space holds; where that is clearly too many, fewer than it holds."""
    num_stretches = len(task.analysis.stretches)
    at_least = int(2 ** len(task.cluster.ranks) - 1) ** num_stretches
    return at_least if at_least > MAX_PLANS else int(len(all_layouts(task)) ** num_stretches)


def all_layouts(task: Task) -> list[Layout]:
    """Every layout that a stretch may have."""
    return list(dict.fromkeys(_layouts(task)))


def _layouts(task: Task) -> Iterator[Layout]:
    for rank in task.cluster.ranks:
        yield Layout(kind="single", devices=(rank,))
    for size in range(2, len(task.cluster.ranks) + 1):
        for devices in combinations(task.cluster.ranks, size):
            yield from splits(task, devices, shares_of(task, devices))
            yield from splits(task, devices, (1.0,) * size)
