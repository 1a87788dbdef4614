"""The demo's cluster: worker processes on this machine, each limited to a share of a core."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from edgeflow.cluster import Cluster
from edgeflow.errors import ConfigError
from edgeflow.telemetry.progress import Progress

#: Between processes of one machine, over gRPC from Python: round numbers of several measurements.
_BANDWIDTH: Final = "4 Gbit/s"
_LATENCY: Final = "0.8 ms"


def demo_cluster(speeds: Sequence[float]) -> Cluster:
    """Return a cluster of local worker processes, each with a share of a core.

    Raises:
        ConfigError: If a share is not above 0 and at most 1.
    """
    for speed in speeds:
        if not 0 < speed <= 1:
            raise ConfigError(f"--speeds: a local worker takes a share of a core, 0 to 1; got {speed:g}")
    return Cluster.local(speeds, bandwidth=_BANDWIDTH, latency=_LATENCY, name="demo")


@contextmanager
def local_workers(speeds: Sequence[float], progress: Progress) -> Iterator[list[str]]:
    """Start one worker process per device; yield their addresses in rank order; stop them at the end."""
    from edgeflow.coordinator.processes import LocalWorkers
    from edgeflow.kernels import resolve_executor

    with progress.waiting(f"starting {len(speeds)} workers"):
        workers = LocalWorkers(dict(enumerate(speeds)), threads=1, executor=resolve_executor("auto"))
    try:
        yield [workers.addresses[rank] for rank in range(len(speeds))]
    finally:
        workers.close()
