"""Plans as JSON files.

A file holds the stages and how they were weighed; of the graph it holds the name and the fingerprint.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from edgeflow.cluster.cluster import Cluster
from edgeflow.errors import InvalidPlanError
from edgeflow.files import read_json
from edgeflow.graph.ir import ModelGraph
from edgeflow.plan.decision import Decision
from edgeflow.plan.stage import Stage
from edgeflow.plan.verify import verify
from edgeflow.plan.weighed import Candidate, Figures, Weighed

_FORMAT: Final = "edgeflow-plan-2"


class _File(msgspec.Struct, kw_only=True):
    format: str
    graph_name: str
    graph_fingerprint: str
    cluster: Cluster
    stages: tuple[Stage, ...]
    replicas: tuple[tuple[Stage, ...], ...]
    activations: str
    weighed: Weighed


class _Candidate1(msgspec.Struct):
    """A candidate in the layout of version 1."""

    label: str
    latency_s: float | None = None
    reason: str = ""
    period_s: float | None = None
    energy_j: float | None = None


class _File1(msgspec.Struct, kw_only=True):
    """The layout of version 1, which is read but no longer written."""

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
    candidates: tuple[_Candidate1, ...]
    stages: tuple[Stage, ...]
    replicas: tuple[tuple[Stage, ...], ...]
    activations: str = ""

    def upgraded(self) -> _File:
        """Return the same in today's layout."""
        return _File(
            format=_FORMAT,
            graph_name=self.graph_name,
            graph_fingerprint=self.graph_fingerprint,
            cluster=self.cluster,
            stages=self.stages,
            replicas=self.replicas,
            activations=self.activations,
            weighed=Weighed(
                strategy=self.strategy,
                objective=self.objective,
                deadline_s=self.deadline_s,
                figures=Figures(self.predicted_latency_s, self.predicted_period_s, self.predicted_energy_j),
                lower_bound_s=self.lower_bound_s,
                chosen=self.chosen,
                candidates=tuple(
                    Candidate(item.label, Figures(item.latency_s, item.period_s, item.energy_j), item.reason)
                    for item in self.candidates
                ),
            ),
        )


_KINDS: Final[Mapping[str, type[_File | _File1]]] = {_FORMAT: _File, "edgeflow-plan-1": _File1}


def save(decision: Decision, weighed: Weighed, path: Path) -> None:
    """Write a plan; see `Plan.save`."""
    data = _File(
        format=_FORMAT,
        graph_name=decision.graph.name,
        graph_fingerprint=decision.graph.fingerprint,
        cluster=decision.cluster,
        stages=decision.stages,
        replicas=decision.replicas,
        activations=decision.activations,
        weighed=weighed,
    )
    path.write_bytes(msgspec.json.format(msgspec.json.encode(data)))


def load(path: Path, graph: ModelGraph) -> tuple[Decision, Weighed]:
    """Read and check a plan; see `Plan.load`."""
    found = read_json(path, _KINDS, what="plan")
    data = found.upgraded() if isinstance(found, _File1) else found
    if data.graph_fingerprint != graph.fingerprint:
        raise InvalidPlanError(
            f"{path} was made for graph {data.graph_name!r} ({data.graph_fingerprint}), "
            f"not for {graph.name!r} ({graph.fingerprint})"
        )
    decision = Decision(
        graph=graph,
        cluster=data.cluster,
        stages=data.stages,
        replicas=data.replicas,
        activations=data.activations,
    )
    verify(decision)
    return decision, data.weighed
