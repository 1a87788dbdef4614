"""The DECISION: which region of which tensor each device computes, and where devices synchronise.

Frozen data. A plan is a list of stages in topological order; inside a stage there is no communication,
between stages one rule moves everything: *device d receives from device e exactly owned(e) ∩ need(d), and
the receiver sums partial results*. See `edgeflow.plan.lower` for the programs that follow from it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
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
    """What was weighed: a label and its predicted latency, or why it could not be."""

    label: str
    latency_s: float | None = None
    reason: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """A graph, a cluster, and the decision that joins them.

    Attributes:
        stages: In topological order.
        strategy: Name of the strategy that was asked for.
        objective: What it minimised: ``latency``.
        predicted_latency_s: From a request's arrival to its whole answer, on an idle cluster.
        candidates: What was weighed on the way, the chosen one among them.
        chosen: Label of the candidate that this plan is.
    """

    graph: ModelGraph
    cluster: Cluster
    stages: tuple[Stage, ...]
    strategy: str
    objective: str = "latency"
    predicted_latency_s: float = float("nan")
    candidates: tuple[Candidate, ...] = ()
    chosen: str = ""

    @cached_property
    def programs(self) -> Mapping[int, Program]:
        """Rank -> what it runs; the client's program is under `edgeflow.plan.program.CLIENT`."""
        return lower(self.graph, self.cluster, self.stages)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the graph, the cluster and the stages."""
        digest = hashlib.blake2b(digest_size=16)
        digest.update(self.graph.fingerprint.encode())
        digest.update(msgspec.json.encode([self.cluster, self.stages]))
        return digest.hexdigest()

    @property
    def devices(self) -> tuple[int, ...]:
        """Ranks that compute something."""
        return tuple(sorted({shard.device for stage in self.stages for shard in stage.shards}))

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
