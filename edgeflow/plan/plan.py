"""A plan: a decision, and how it was weighed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from edgeflow.cluster.cluster import Cluster
from edgeflow.graph.ir import ModelGraph
from edgeflow.plan.decision import Decision
from edgeflow.plan.explain import explain
from edgeflow.plan.file import load, save
from edgeflow.plan.program import Program
from edgeflow.plan.stage import Stage
from edgeflow.plan.verify import verify
from edgeflow.plan.weighed import Candidate, Figures, Weighed
from edgeflow.units import format_seconds


@dataclass(frozen=True, eq=False)
class Plan:
    """A decision and how it was weighed; their fields, documented there, are properties here.

    Predicted figures and the lower bound are NaN here where they are unknown.
    """

    decision: Decision
    weighed: Weighed

    def reweighed(self, **changes: Any) -> Plan:
        """Return the same decision with some fields of `Weighed` replaced; its programs are shared."""
        return Plan(self.decision, msgspec.structs.replace(self.weighed, **changes))

    @property
    def graph(self) -> ModelGraph:
        return self.decision.graph

    @property
    def cluster(self) -> Cluster:
        return self.decision.cluster

    @property
    def stages(self) -> tuple[Stage, ...]:
        return self.decision.stages

    @property
    def replicas(self) -> tuple[tuple[Stage, ...], ...]:
        return self.decision.replicas

    @property
    def activations(self) -> str:
        return self.decision.activations

    @property
    def programs(self) -> Mapping[int, Program]:
        return self.decision.programs

    @property
    def ways(self) -> tuple[Decision, ...]:
        return self.decision.ways

    @property
    def fingerprint(self) -> str:
        return self.decision.fingerprint

    @property
    def devices(self) -> tuple[int, ...]:
        return self.decision.devices

    @property
    def strategy(self) -> str:
        return self.weighed.strategy

    @property
    def objective(self) -> str:
        return self.weighed.objective

    @property
    def deadline_s(self) -> float | None:
        return self.weighed.deadline_s

    @property
    def figures(self) -> Figures:
        return self.weighed.figures

    @property
    def predicted_latency_s(self) -> float:
        return _or_nan(self.figures.latency_s)

    @property
    def predicted_period_s(self) -> float:
        return _or_nan(self.figures.period_s)

    @property
    def predicted_energy_j(self) -> float:
        return _or_nan(self.figures.energy_j)

    @property
    def lower_bound_s(self) -> float:
        return _or_nan(self.weighed.lower_bound_s)

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        return self.weighed.candidates

    @property
    def chosen(self) -> str:
        return self.weighed.chosen

    def explain(self) -> str:
        """Return in plain words what each device does, what it costs, and what was rejected."""
        return explain(self.decision, self.weighed)

    def save(self, path: str | Path) -> None:
        """Write the plan as JSON; the graph is saved apart, and named here by its fingerprint."""
        save(self.decision, self.weighed, Path(path))

    @staticmethod
    def load(path: str | Path, graph: ModelGraph) -> Plan:
        """Read a plan for ``graph``.

        Raises:
            ConfigError: If there is no such file.
            CodecError: If it is not a plan.
            InvalidPlanError: If it was made for another graph (the message shows both fingerprints), or does
                not satisfy `verify_plan`.
            InfeasiblePlanError: If it does not fit into its cluster.
        """
        return Plan(*load(Path(path), graph))

    def __repr__(self) -> str:
        return (
            f"Plan({self.graph.name!r}, strategy={self.strategy!r}, {len(self.stages)} stages on "
            f"{len(self.devices)} devices, {format_seconds(self.predicted_latency_s)})"
        )


def verify_plan(plan: Plan | Decision) -> None:
    """Check a plan, or one of its ways; see `edgeflow.plan.verify.verify`, also for the errors."""
    verify(plan.decision if isinstance(plan, Plan) else plan)


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value
