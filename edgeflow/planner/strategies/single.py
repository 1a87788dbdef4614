"""Everything on one device: the best one that can hold it. Always a candidate."""

from __future__ import annotations

from edgeflow.plan.plan import Plan
from edgeflow.planner.search.alone import best_alone
from edgeflow.planner.task import Task


def single(task: Task) -> Plan:
    """Return the best plan on one device.

    Raises:
        InfeasiblePlanError: If no device can hold the model; names the device that lacks least.
    """
    return best_alone(task)
