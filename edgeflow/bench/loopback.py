"""Measure the link between pinned processes, and the contention between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any

import edgeflow as ef
from edgeflow.bench.machine import pin, pinned
from edgeflow.cluster.network import Link
from edgeflow.coordinator.processes import LocalWorkers
from edgeflow.cost.model import CostModel
from edgeflow.measure.peers import measure_peer


def measure_loopback(cost: CostModel, on: Sequence[int], *, executor: str) -> Link:
    """Measure the link from this process, on the first of these cores, to a worker on the last one.

    Args:
        cost: Gives the processor time of a frame, which is not part of the link.
    """
    with closing(LocalWorkers({0: 1.0}, threads=1, executor=executor)) as workers, pinned(on[:1]):
        pin(workers.pids[0], on[-1:])
        peer = measure_peer(workers.addresses[0], message=cost.message_cost(0))
    return Link(bandwidth_bytes_per_s=peer.bandwidth_bytes_per_s, latency_s=peer.latency_s)


def measure_contention(
    graph: ef.ModelGraph,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    on: Sequence[int],
    *,
    executor: str,
) -> float:
    """Return kernel time with the model on all of these cores / kernel time on the first one alone."""
    plan = ef.plan(graph, ef.Cluster.local([1.0]), strategy="single")
    with closing(LocalWorkers(dict.fromkeys(range(len(on)), 1.0), threads=1, executor=executor)) as workers:
        for number, core in enumerate(on):
            pin(workers.pids[number], [core])
        return ef.measure_contention(plan, list(workers.addresses.values()), args, kwargs)
