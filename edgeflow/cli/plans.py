"""Make or read the plan of a command, and describe plans as JSON."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from edgeflow.cli.screen import waiting
from edgeflow.cluster import Cluster
from edgeflow.models.load import Subject
from edgeflow.plan import Plan


def make_plan(
    subject: Subject,
    cluster: Cluster | None,
    *,
    strategy: str,
    objective: str = "latency",
    deadline_s: float | None = None,
    activations: str = "",
    file: Path | None = None,
) -> Plan:
    """Return the plan in ``file``, or one made by ``strategy`` if there is no file.

    Raises:
        ConfigError: If the file or the strategy is wrong.
        InvalidPlanError: If the file's plan is for another graph.
        InfeasiblePlanError: If no plan fits the cluster.
    """
    import edgeflow as ef

    if file is not None:
        return ef.Plan.load(file, subject.graph)
    assert cluster is not None, "options give a cluster or a plan"
    with waiting(f"planning {subject.name} for {len(cluster.devices)} devices"):
        return ef.plan(
            subject.graph,
            cluster,
            strategy=strategy,
            objective=objective,
            deadline_s=deadline_s,
            activations=activations,
        )


def make_front(subject: Subject, cluster: Cluster | None) -> tuple[Plan, ...]:
    """Return the Pareto front: plans that no other beats in latency, throughput and energy at once."""
    import edgeflow as ef

    assert cluster is not None, "options give a cluster"
    with waiting(f"planning {subject.name} for {len(cluster.devices)} devices, every objective"):
        return ef.pareto(subject.graph, cluster)


def describe_plan(plan: Plan) -> dict[str, Any]:
    """Return a plan's properties for ``--json``; times in seconds."""
    names = [device.name for device in plan.cluster.devices]
    return {
        "model": plan.graph.name,
        "cluster": plan.cluster.name,
        "strategy": plan.strategy,
        "objective": plan.objective,
        "chosen": plan.chosen,
        "deadline_s": plan.deadline_s,
        "activations": plan.activations,
        "predicted_latency_s": plan.predicted_latency_s,
        "predicted_period_s": plan.predicted_period_s,
        "predicted_energy_j": plan.predicted_energy_j,
        "lower_bound_s": None if math.isnan(plan.lower_bound_s) else plan.lower_bound_s,
        "num_ways": len(plan.ways),
        "devices": [names[rank] for rank in plan.devices],
        "stages": [
            {
                "name": stage.name,
                "kind": stage.kind,
                "num_operators": len(stage.operators),
                "devices": [names[rank] for rank in stage.devices],
            }
            for stage in plan.stages
        ],
        "candidates": [
            {
                "label": item.label,
                "latency_s": item.latency_s,
                "reason": item.reason,
                "period_s": item.period_s,
                "energy_j": item.energy_j,
            }
            for item in plan.candidates
        ],
    }
