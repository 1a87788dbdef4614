"""Everything on one device: the best one that can hold it. Always a candidate."""

from __future__ import annotations

from edgeflow.plan.plan import Plan
from edgeflow.planner.task import Task, best_of, whole_on


def single(task: Task) -> Plan:
    """Return the best plan on one device.

    Raises:
        InfeasiblePlanError: If no device can hold the model; names the device that lacks least.
    """
    plans, failures = whole_on(task, strategy="single")
    return best_of(plans, objective=task.objective, strategy="single", failures=failures)
