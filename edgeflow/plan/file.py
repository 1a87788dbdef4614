"""Plans as JSON files."""

from __future__ import annotations

import math
from pathlib import Path

import msgspec

from edgeflow.cluster.cluster import Cluster
from edgeflow.errors import InvalidPlanError
from edgeflow.files import read_json
from edgeflow.graph.ir import ModelGraph
from edgeflow.plan.plan import Candidate, Plan
from edgeflow.plan.stage import Stage
from edgeflow.plan.verify import verify_plan

_FORMAT = "edgeflow-plan-1"


class _File(msgspec.Struct, kw_only=True):
    format: str
    graph_name: str
    graph_fingerprint: str
    cluster: Cluster
    strategy: str
    objective: str
    deadline_s: float | None
    predicted_latency_s: float | None
    predicted_period_s: float | None
    predicted_energy_j: float | None
    lower_bound_s: float | None
    chosen: str
    candidates: tuple[Candidate, ...]
    stages: tuple[Stage, ...]
    replicas: tuple[tuple[Stage, ...], ...]
    activations: str = ""


def save_plan(plan: Plan, path: Path) -> None:
    """Write a plan; see `Plan.save`."""
    data = _File(
        format=_FORMAT,
        graph_name=plan.graph.name,
        graph_fingerprint=plan.graph.fingerprint,
        cluster=plan.cluster,
        strategy=plan.strategy,
        objective=plan.objective,
        deadline_s=plan.deadline_s,
        predicted_latency_s=_or_none(plan.predicted_latency_s),
        predicted_period_s=_or_none(plan.predicted_period_s),
        predicted_energy_j=_or_none(plan.predicted_energy_j),
        lower_bound_s=_or_none(plan.lower_bound_s),
        chosen=plan.chosen,
        candidates=plan.candidates,
        stages=plan.stages,
        replicas=plan.replicas,
        activations=plan.activations,
    )
    path.write_bytes(msgspec.json.format(msgspec.json.encode(data)))


def load_plan(path: Path, graph: ModelGraph) -> Plan:
    """Read and check a plan; see `Plan.load`."""
    data = read_json(path, _File, what="plan", format=_FORMAT)
    if data.graph_fingerprint != graph.fingerprint:
        raise InvalidPlanError(
            f"{path} was made for graph {data.graph_name!r} ({data.graph_fingerprint}), "
            f"not for {graph.name!r} ({graph.fingerprint})"
        )
    plan = Plan(
        graph=graph,
        cluster=data.cluster,
        stages=data.stages,
        strategy=data.strategy,
        objective=data.objective,
        deadline_s=data.deadline_s,
        predicted_latency_s=_or_nan(data.predicted_latency_s),
        predicted_period_s=_or_nan(data.predicted_period_s),
        predicted_energy_j=_or_nan(data.predicted_energy_j),
        lower_bound_s=_or_nan(data.lower_bound_s),
        candidates=data.candidates,
        chosen=data.chosen,
        replicas=data.replicas,
        activations=data.activations,
    )
    verify_plan(plan)
    return plan


def _or_none(value: float) -> float | None:
    """JSON has no NaN."""
    return value if math.isfinite(value) else None


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value
