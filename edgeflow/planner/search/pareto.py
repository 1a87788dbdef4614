"""The Pareto front: plans that no other plan beats in latency, period and energy at once.

All plans that `auto` finds for each objective, and for energy under deadlines between the quickest plan and
the most economical one, without those that another one beats.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from edgeflow.errors import InfeasiblePlanError
from edgeflow.plan.plan import Plan
from edgeflow.planner.objective import KINDS, Objective
from edgeflow.planner.search.explore import explore
from edgeflow.planner.task import Strategy, Task, least_infeasible

#: Deadlines that are tried between the quickest plan and the most economical one.
_NUM_DEADLINES: Final = 3
#: Relative gains below this do not count.
_LEAST_GAIN: Final = 1e-6

_Figures = tuple[float, float, float]


def pareto(task: Task, rivals: Sequence[Strategy]) -> tuple[Plan, ...]:
    """Return the front, quickest plan first; latency, period and joules are predicted.

    Raises:
        InfeasiblePlanError: If nothing fits the devices' memory.
    """
    plans: list[Plan] = []
    failures: list[InfeasiblePlanError] = []
    for kind in KINDS:
        found, failed = explore(_with(task, Objective.of(kind)), rivals)
        plans += found
        failures += [error for _, error in failed]
    if not plans:
        raise least_infeasible(failures)
    quickest = min(plan.predicted_latency_s for plan in plans)
    frugal = min(plans, key=lambda plan: (plan.predicted_energy_j, plan.predicted_latency_s))
    for step in range(1, _NUM_DEADLINES + 1):
        share = step / (_NUM_DEADLINES + 1)
        deadline_s = quickest + share * (frugal.predicted_latency_s - quickest)
        if deadline_s > quickest * (1 + _LEAST_GAIN):
            plans += explore(_with(task, Objective.of("energy", deadline_s)), rivals)[0]
    return front(plans)


def front(plans: Sequence[Plan]) -> tuple[Plan, ...]:
    """Return the plans that no other one beats, one per set of equal figures, quickest first."""
    kept: list[Plan] = []
    for plan in sorted(plans, key=_figures):
        mine = _figures(plan)
        if not any(_is_as_good(_figures(other), mine) for other in kept):
            kept.append(plan.reweighed(strategy="auto"))
    return tuple(kept)


def _with(task: Task, objective: Objective) -> Task:
    return msgspec.structs.replace(task, objective=objective)


def _figures(plan: Plan) -> _Figures:
    return plan.predicted_latency_s, plan.predicted_period_s, plan.predicted_energy_j


def _is_as_good(one: _Figures, other: _Figures) -> bool:
    return all(a <= b * (1 + _LEAST_GAIN) for a, b in zip(one, other, strict=True))
