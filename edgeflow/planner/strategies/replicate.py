"""The whole model on every device that can hold it; each request goes to the one expected to finish first.

What people do without edgeflow. It does not make a single request faster, but for throughput it is often the
best: nothing is exchanged between devices. Devices that would take no requests are left out.
"""

from __future__ import annotations

from edgeflow.plan.plan import Plan
from edgeflow.planner.task import Task, best_of, finish_ways, whole_on


def replicate(task: Task) -> Plan:
    """Return a plan with one way per device.

    Raises:
        InfeasiblePlanError: If no device can hold the model; names the device that lacks least.
    """
    alone, failures = whole_on(task, strategy="replicate")
    if len(alone) < 2:
        return best_of(alone, objective=task.objective, strategy="replicate", failures=failures)
    together = finish_ways(task, alone, strategy="replicate", label=f"replicas on {len(alone)} devices")
    return best_of([together], objective=task.objective, strategy="replicate", failures=failures)
