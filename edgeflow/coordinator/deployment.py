"""`edgeflow.deploy`: a plan becomes a session."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from edgeflow.balancer import Planner, Rebalancer, Thresholds
from edgeflow.coordinator.answers import MAX_WAITING, check_timeout
from edgeflow.coordinator.client import WorkerClient
from edgeflow.coordinator.launcher import Elsewhere, Launcher
from edgeflow.coordinator.members import Watch
from edgeflow.coordinator.processes import LocalLauncher, LocalWorkers
from edgeflow.coordinator.session import Care, Network, Session
from edgeflow.cost import CostModel
from edgeflow.errors import ConfigError
from edgeflow.kernels import AUTO, resolve_executor
from edgeflow.net.security import Access
from edgeflow.net.transport.grpc_ import GrpcTransport
from edgeflow.net.transport.routes import CHOICES, RoutedTransport, choose_routes
from edgeflow.net.transport.tcp import TcpTransport
from edgeflow.plan import Plan
from edgeflow.plan.program import CLIENT
from edgeflow.rank.pages import PagePool


def deploy(
    plan: Plan,
    workers: Sequence[str] | None = None,
    *,
    local: bool = False,
    launcher: Launcher | None = None,
    network: Network | None = None,
    threads: int = 1,
    executor: str = AUTO,
    timeout_s: float = 60.0,
    emulate_speeds: bool = True,
    transport: str = "auto",
    access: Access | None = None,
    max_waiting: int = MAX_WAITING,
    replan: Planner | None = None,
    balance: bool | Thresholds = False,
    cost: CostModel | None = None,
    watch: Watch | None = None,
    status_file: Path | None = None,
) -> Session:
    """Bring a plan onto workers, and return a session that answers requests.

    Either all workers hold the plan when this returns, or none does when it raises.

    Args:
        workers: ``HOST:PORT`` of every device of the cluster, in its order, as the *other workers* reach
            them too. Devices that the plan does not use are not contacted.
        local: Start worker processes on this machine instead, with the memory of the cluster's devices; they
            end with the session.
        launcher: Instead of both, what gives the workers' addresses, and is closed with the session.
        network: How workers are reached; by default by ``transport``, showing them ``access``.
        threads: Threads that compute, of each local worker.
        executor: Back end of local workers; by default the best that is installed.
        timeout_s: Of each control call, and of each request.
        transport: What carries activations: ``tcp``, ``grpc``, or ``auto``, which is tcp where every worker
            offers it, and gRPC on each connection that cannot be made that way.
        emulate_speeds: Make local workers as unequal as the cluster's devices.
        access: Certificates and join token to show to running workers; local ones have a token of their own.
        max_waiting: Requests that may wait for a worker; one more is refused with `OverloadedError`.
        replan: Makes another plan of a graph (the one that takes requests at that time) for the workers that
            are up, under the latest estimates of their speed, when one is lost or joins. None: a lost worker
            ends the session's requests. (`edgeflow.deploy` gives the planner, with the plan's own strategy
            and objective.)
        balance: Re-plan also when devices or links change their speed, if that pays.
        cost: Costs that the plan was made with; the roofline of the devices by default.
        watch: How closely workers are watched.
        status_file: Where the session writes what it is doing, for ``edgeflow top``; needs ``replan``.

    Raises:
        ConfigError: If the arguments do not fit each other or the cluster.
        WorkerUnreachableError: If a worker does not answer; the message names it and the time waited.
        ClusterError: If a worker cannot take its part.

    Examples:
        >>> with deploy(plan, workers=["nuc:7000", "pi4:7000"]) as session:  # doctest: +SKIP
        ...     y = session.run(x)
    """
    if transport not in CHOICES:
        raise ConfigError(f"no transport {transport!r}; known: {', '.join(CHOICES)}")
    check_timeout(timeout_s)
    care = None
    if replan is not None:
        thresholds = balance if isinstance(balance, Thresholds) else None
        care = Care(
            balancer=Rebalancer(thresholds, planner=replan, cost=cost),
            watch=watch or Watch(),
            is_balancing=bool(balance),
            status_file=status_file,
        )
    elif balance:
        raise ConfigError("to balance, the session needs a planner: give replan")
    if sum((local, workers is not None, launcher is not None)) != 1:
        raise ConfigError("give one of: the addresses of workers, local=True, or a launcher")
    # Devices that may be used later must be reachable and, if local, run.
    ranks = (
        sorted(plan.cluster.ranks)
        if care is not None
        else sorted({rank for way in plan.ways for rank in way.programs if rank != CLIENT})
    )
    if workers is not None:
        launcher = Elsewhere(_addresses(plan, workers, ranks))
    elif launcher is None:
        # Other users of this machine can reach the workers' ports, but do not know their token.
        access = Access(token=secrets.token_urlsafe(32))
        launcher = _launched(
            plan, ranks, threads=threads, executor=executor, is_unequal=emulate_speeds, access=access
        )
    try:
        return Session(
            plan,
            launcher,
            network=network or _network(transport, access),
            timeout_s=timeout_s,
            max_waiting=max_waiting,
            cost=cost,
            care=care,
        )
    except BaseException:
        launcher.close()
        raise


def _launched(
    plan: Plan, ranks: Sequence[int], *, threads: int, executor: str, is_unequal: bool, access: Access
) -> LocalLauncher:
    """Start a worker process on this machine for each rank."""
    if threads < 1:
        raise ConfigError(f"threads must be at least 1, got {threads}")
    devices = plan.cluster.devices
    speeds = plan.cluster.relative_speeds if is_unequal else (1.0,) * len(devices)
    workers = LocalWorkers(
        {rank: speeds[rank] for rank in ranks},
        threads=threads,
        executor=resolve_executor(executor),
        memory_bytes={rank: devices[rank].memory_bytes for rank in ranks},
        token=access.token,
    )
    return LocalLauncher(workers, {rank: devices[rank].name for rank in ranks})


def _network(choice: str, access: Access | None) -> Network:
    """Return TCP and gRPC between real machines."""
    credentials = access.credentials if access else None
    tcp = TcpTransport(credentials, allocate=PagePool().empty)
    return Network(
        transport=RoutedTransport((tcp, GrpcTransport(credentials))),
        choose_routes=partial(choose_routes, choice=choice),
        control=partial(WorkerClient, access=access),
    )


def _addresses(plan: Plan, workers: Sequence[str], ranks: Sequence[int]) -> Mapping[str, str]:
    """Name of a device -> address of its worker."""
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
    return {device.name: address for device, address in zip(devices, workers, strict=True)}
