"""Every layout for every stretch, each predicted exactly: the oracle, for tiny inputs.

The space is that of `edgeflow.planner.search.exhaustive`: the best plan is exact within it. Inputs with too
many plans are refused.
"""

from __future__ import annotations

from edgeflow.plan.plan import Plan
from edgeflow.planner.search.exhaustive import exhaustive
from edgeflow.planner.task import Task


def brute_force(task: Task) -> Plan:
    """Return the best of all plans of the space.

    Raises:
        InfeasiblePlanError: If the space has too many plans, with both numbers, or no plan fits the devices'
            memory.
    """
    return exhaustive(task)
