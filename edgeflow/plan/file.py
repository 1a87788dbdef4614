"""Plans as JSON files."""

from __future__ import annotations

import math
from pathlib import Path

import msgspec

from edgeflow.cluster.cluster import Cluster
from edgeflow.errors import CodecError, ConfigError, InvalidPlanError
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
    predicted_latency_s: float | None
    chosen: str
    candidates: tuple[Candidate, ...]
    stages: tuple[Stage, ...]


def save_plan(plan: Plan, path: Path) -> None:
    """Write a plan; see `Plan.save`."""
    latency = plan.predicted_latency_s
    data = _File(
        format=_FORMAT,
        graph_name=plan.graph.name,
        graph_fingerprint=plan.graph.fingerprint,
        cluster=plan.cluster,
        strategy=plan.strategy,
        objective=plan.objective,
        predicted_latency_s=latency if math.isfinite(latency) else None,
        chosen=plan.chosen,
        candidates=plan.candidates,
        stages=plan.stages,
    )
    path.write_bytes(msgspec.json.format(msgspec.json.encode(data)))


def load_plan(path: Path, graph: ModelGraph) -> Plan:
    """Read and check a plan; see `Plan.load`."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read plan {path}: {error.strerror or error}") from error
    try:
        data = msgspec.json.decode(content, type=_File)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise CodecError(f"{path} is not an edgeflow plan: {error}") from error
    if data.format != _FORMAT:
        raise CodecError(f"{path} is not an edgeflow plan of a known version: {data.format!r}")
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
        predicted_latency_s=math.nan if data.predicted_latency_s is None else data.predicted_latency_s,
        candidates=data.candidates,
        chosen=data.chosen,
    )
    verify_plan(plan)
    return plan
