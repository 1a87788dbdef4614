"""`edgeflow.deploy`: a plan becomes a session."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence

from edgeflow.cost import predict
from edgeflow.errors import ConfigError
from edgeflow.plan import Plan
from edgeflow.plan.program import CLIENT
from edgeflow.runtime.coordinator.processes import LocalWorkers
from edgeflow.runtime.coordinator.replicas import AnySession, ReplicatedSession
from edgeflow.runtime.coordinator.session import Session
from edgeflow.runtime.executor import AUTO, resolve_executor
from edgeflow.runtime.transport.routes import CHOICES


def deploy(
    plan: Plan,
    workers: Sequence[str] | None = None,
    *,
    local: bool = False,
    threads: int = 1,
    executor: str = AUTO,
    timeout_s: float = 60.0,
    emulate_speeds: bool = True,
    transport: str = "auto",
) -> AnySession:
    """Bring a plan onto workers, and return a session that answers requests.

    Either all workers hold the plan when this returns, or none does when it raises.

    Args:
        workers: ``HOST:PORT`` of every device of the cluster, in its order, as the *other workers* reach
            them too. Devices that the plan does not use are not contacted.
        local: Start worker processes on this machine instead, with the memory of the cluster's devices; they
            end with the session.
        threads: Threads that compute, of each local worker.
        executor: Back end of local workers; by default the best that is installed.
        timeout_s: Of each control call, and of each request.
        transport: What carries activations: ``tcp``, ``grpc``, or ``auto``, which is tcp where every worker
            offers it, and gRPC on each connection that cannot be made that way.
        emulate_speeds: Make local workers as unequal as the cluster's devices.

    Raises:
        ConfigError: If the arguments do not fit each other or the cluster.
        WorkerUnreachableError: If a worker is not there; the message names it and the time waited.
        ClusterError: If a worker cannot take its part.

    Examples:
        >>> with deploy(plan, workers=["nuc:7000", "pi4:7000"]) as session:  # doctest: +SKIP
        ...     y = session.run(x)
    """
    if transport not in CHOICES:
        raise ConfigError(f"no transport {transport!r}; known: {', '.join(CHOICES)}")
    if timeout_s <= 0:
        raise ConfigError(f"timeout_s must be positive, got {timeout_s:g}")
    if local == (workers is not None):
        raise ConfigError("give either the addresses of workers, or local=True")
    ranks = sorted({rank for way in plan.ways for rank in way.programs if rank != CLIENT})
    if workers is not None:
        return _open(plan, _addresses(plan, workers, ranks), timeout_s=timeout_s, transport=transport)
    executor = resolve_executor(executor)
    if threads < 1:
        raise ConfigError(f"threads must be at least 1, got {threads}")
    speeds = plan.cluster.relative_speeds if emulate_speeds else (1.0,) * len(plan.cluster.devices)
    processes = LocalWorkers(
        {rank: speeds[rank] for rank in ranks},
        threads=threads,
        executor=executor,
        memory_bytes={rank: plan.cluster.devices[rank].memory_bytes for rank in ranks},
    )
    try:
        return _open(plan, processes.addresses, timeout_s=timeout_s, transport=transport, processes=processes)
    except BaseException:
        processes.close()
        raise


def _open(
    plan: Plan,
    addresses: Mapping[int, str],
    *,
    timeout_s: float,
    transport: str,
    processes: LocalWorkers | None = None,
) -> AnySession:
    if not plan.replicas:
        return Session(
            plan, _new_epoch(), addresses, timeout_s=timeout_s, transport=transport, processes=processes
        )

    def open_way(way: Plan) -> Session:
        used = {rank: addresses[rank] for rank in way.programs if rank != CLIENT}
        return Session(way, _new_epoch(), used, timeout_s=timeout_s, transport=transport)

    expected_s = [predict(way, with_events=False).latency_s for way in plan.ways]
    return ReplicatedSession(plan, open_way, expected_s=expected_s, processes=processes)


def _addresses(plan: Plan, workers: Sequence[str], ranks: Sequence[int]) -> Mapping[int, str]:
    devices = plan.cluster.devices
    if isinstance(workers, str):
        raise ConfigError(f"workers must be a list of addresses, got the text {workers!r}")
    if len(workers) != len(devices):
        raise ConfigError(
            f"{len(workers)} worker addresses for a cluster of {len(devices)} devices "
            f"({', '.join(device.name for device in devices)})"
        )
    for address in workers:
        host, separator, port = address.rpartition(":")
        if not separator or not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise ConfigError(f"worker address {address!r} is not HOST:PORT")
    used = {rank: workers[rank] for rank in ranks}
    for rank, address in used.items():
        twin = next((other for other in used if other < rank and used[other] == address), None)
        if twin is not None:
            raise ConfigError(f"{address} is given for rank {twin} and for rank {rank}")
    return used


def _new_epoch() -> int:
    """A number that no other deployment has: the time in milliseconds, then 20 random bits."""
    return (time.time_ns() // 1_000_000 << 20) | secrets.randbits(20)
