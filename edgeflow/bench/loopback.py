"""What the loopback interface is as a link, between processes that run on cores of their own."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

from edgeflow.bench.machine import pin, pinned
from edgeflow.cluster.network import Link
from edgeflow.cost.model import CostModel
from edgeflow.runtime.coordinator.processes import LocalWorkers
from edgeflow.runtime.profile.peers import measure_peer


def measure_loopback(cost: CostModel, on: Sequence[int], *, executor: str) -> Link:
    """Measure the way from this process, on the first of these cores, to a worker on the last one.

    Args:
        cost: Says what frames cost the processors, which is no part of the link.
    """
    with closing(LocalWorkers({0: 1.0}, threads=1, executor=executor)) as workers, pinned(on[:1]):
        pin(workers.pids[0], on[-1:])
        peer = measure_peer(workers.addresses[0], message=cost.message_cost(0))
    return Link(bandwidth_bytes_per_s=peer.bandwidth_bytes_per_s, latency_s=peer.latency_s)
