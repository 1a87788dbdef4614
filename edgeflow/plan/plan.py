"""The DECISION: which region of which tensor each device computes, and where devices synchronise.

Frozen data. A plan is a list of stages in topological order; inside a stage there is no communication,
between stages one rule moves everything: *device d receives from device e exactly owned(e) ∩ need(d), and
the receiver sums partial results*. See `edgeflow.plan.lower` for the programs that follow from it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import msgspec

from edgeflow.cluster.cluster import Cluster
from edgeflow.graph.ir import ModelGraph
from edgeflow.plan.lower import lower
from edgeflow.plan.program import Program
from edgeflow.plan.stage import Piece, Shard, Stage
from edgeflow.units import format_seconds

__all__ = ["Candidate", "Piece", "Plan", "Shard", "Stage"]


class Candidate(msgspec.Struct, frozen=True):
    """What was weighed: a label and what was predicted of it, or why it could not be."""

    label: str
    latency_s: float | None = None
    reason: str = ""
    period_s: float | None = None
    energy_j: float | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """A graph, a cluster, and the decision that joins them.

    Attributes:
        stages: In topological order.
        strategy: Name of the strategy that was asked for.
        objective: What it is best at: ``latency``, ``throughput`` or ``energy``.
        deadline_s: The latency that it was to keep, if one was asked for.
        predicted_latency_s: From a request's arrival to its whole answer, on an idle cluster.
        predicted_period_s: Time between two answers when requests never cease.
        predicted_energy_j: That one request adds to what the devices spend at rest; modelled.
        lower_bound_s: Latency that no plan on this cluster is predicted to beat; NaN where it was not asked.
        candidates: What was weighed on the way, the chosen one among them.
        chosen: Label of the candidate that this plan is.
        replicas: Stages of further ways to answer, each complete. A request is answered in one of the ways,
            the one that is expected to be done first; more than one is for throughput.
        activations: What they are encoded as on slow links (`edgeflow.plan.encoding`); empty: not at all,
            and the answers are those of one device.
    """

    graph: ModelGraph
    cluster: Cluster
    stages: tuple[Stage, ...]
    strategy: str
    objective: str = "latency"
    deadline_s: float | None = None
    predicted_latency_s: float = float("nan")
    predicted_period_s: float = float("nan")
    predicted_energy_j: float = float("nan")
    lower_bound_s: float = float("nan")
    candidates: tuple[Candidate, ...] = ()
    chosen: str = ""
    replicas: tuple[tuple[Stage, ...], ...] = ()
    activations: str = ""

    @cached_property
    def programs(self) -> Mapping[int, Program]:
        """Rank -> what it runs; the client's program is under `edgeflow.plan.program.CLIENT`."""
        return lower(self.graph, self.cluster, self.stages, activations=self.activations)

    @cached_property
    def ways(self) -> tuple[Plan, ...]:
        """The ways to answer a request, each a plan without replicas; most plans have one, themselves."""
        if not self.replicas:
            return (self,)
        first = replace(self, replicas=())
        if "programs" in self.__dict__:
            first.__dict__["programs"] = self.programs
        return (first, *(replace(first, stages=stages) for stages in self.replicas))

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the graph, the cluster and the stages."""
        digest = hashlib.blake2b(digest_size=16)
        digest.update(self.graph.fingerprint.encode())
        digest.update(msgspec.json.encode([self.cluster, self.stages, self.replicas, self.activations]))
        return digest.hexdigest()

    @property
    def devices(self) -> tuple[int, ...]:
        """Ranks that compute something."""
        stages = [stage for way in (self.stages, *self.replicas) for stage in way]
        return tuple(sorted({rank for stage in stages for rank in stage.devices}))

    def explain(self) -> str:
        """Return in plain words what each device does, what it costs, and what was rejected."""
        from edgeflow.plan.explain import explain_plan

        return explain_plan(self)

    def save(self, path: str | Path) -> None:
        """Write the plan as JSON; the graph is saved apart, and named here by its fingerprint."""
        from edgeflow.plan.file import save_plan

        save_plan(self, Path(path))

    @staticmethod
    def load(path: str | Path, graph: ModelGraph) -> Plan:
        """Read a plan for ``graph``.

        Raises:
            ConfigError: If there is no such file.
            CodecError: If it is not a plan.
            InvalidPlanError: If it was made for another graph; the message shows both fingerprints.
        """
        from edgeflow.plan.file import load_plan

        return load_plan(Path(path), graph)

    def __repr__(self) -> str:
        return (
            f"Plan({self.graph.name!r}, strategy={self.strategy!r}, {len(self.stages)} stages on "
            f"{len(self.devices)} devices, {format_seconds(self.predicted_latency_s)})"
        )
