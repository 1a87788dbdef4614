"""Everything on one device: the best one that can hold it. Always a candidate."""

from __future__ import annotations

from edgeflow.errors import InfeasiblePlanError
from edgeflow.plan.plan import Plan
from edgeflow.planner.layout import Layout
from edgeflow.planner.strategy import Run, Task, best_of, finish_runs


def single(task: Task) -> Plan:
    """Return the least-latency plan on one device.

    Raises:
        InfeasiblePlanError: If no device can hold the model; names the device that lacks least.
    """
    plans, failures = [], []
    for rank, device in enumerate(task.cluster.devices):
        label = f"single on {device.name}"
        run = Run(task.graph.operators, Layout(kind="single", devices=(rank,)))
        try:
            plans.append(finish_runs(task, [run], strategy="single", label=label))
        except InfeasiblePlanError as error:
            failures.append((label, error))
    return best_of(plans, objective=task.objective, strategy="single", failures=failures)
