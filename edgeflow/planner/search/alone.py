"""The whole graph on the best single device: a candidate of several strategies."""

from __future__ import annotations

from edgeflow.plan.plan import Plan
from edgeflow.planner.task import Task, best_of, whole_on


def best_alone(task: Task, *, strategy: str = "single") -> Plan:
    """Return the best plan on one device.

    Raises:
        InfeasiblePlanError: If no device can hold the model; names the device that lacks least.
    """
    plans, failures = whole_on(task, strategy=strategy)
    return best_of(plans, objective=task.objective, strategy=strategy, failures=failures)
