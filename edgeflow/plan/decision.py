"""The decision: which region of which tensor each device computes, and where devices synchronise.

Frozen data. Stages stand in topological order; inside a stage there is no communication, between stages one
rule moves everything: *device d receives from device e exactly owned(e) ∩ need(d), and the receiver sums
partial results*. `edgeflow.plan.lower` writes the programs that follow from it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import msgspec

from edgeflow.cluster.cluster import Cluster
from edgeflow.graph.ir import ModelGraph
from edgeflow.plan.lower import lower
from edgeflow.plan.program import Program
from edgeflow.plan.stage import Stage


@dataclass(frozen=True, kw_only=True, eq=False)
class Decision:
    """A graph, a cluster, and the stages that join them.

    Attributes:
        stages: In topological order.
        replicas: Stages of further ways to answer, each complete. A request is answered in one of the ways,
            the one that is expected to finish it first; several ways serve throughput.
        activations: Encoding of activations on slow links (`edgeflow.plan.encoding`). Empty: none, and the
            answers are those of one device.
    """

    graph: ModelGraph
    cluster: Cluster
    stages: tuple[Stage, ...]
    replicas: tuple[tuple[Stage, ...], ...] = ()
    activations: str = ""

    @cached_property
    def ways(self) -> tuple[Decision, ...]:
        """The ways to answer a request, each without replicas; most decisions have one way: themselves."""
        if not self.replicas:
            return (self,)
        return tuple(replace(self, stages=stages, replicas=()) for stages in (self.stages, *self.replicas))

    @cached_property
    def programs(self) -> Mapping[int, Program]:
        """Rank -> its program in the first way; the client's is under `edgeflow.plan.program.CLIENT`."""
        if self.replicas:
            return self.ways[0].programs
        return lower(self.graph, self.cluster, self.stages, activations=self.activations)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the graph, the cluster and the stages."""
        digest = hashlib.blake2b(digest_size=16)
        digest.update(self.graph.fingerprint.encode())
        digest.update(msgspec.json.encode([self.cluster, self.stages, self.replicas, self.activations]))
        return digest.hexdigest()

    @property
    def devices(self) -> tuple[int, ...]:
        """Ranks that compute something, in any of the ways."""
        stages = [stage for way in (self.stages, *self.replicas) for stage in way]
        return tuple(sorted({rank for stage in stages for rank in stage.devices}))
