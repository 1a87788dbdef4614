"""A worker behind its gRPC server: one port for control, data and health."""

from __future__ import annotations

import logging
import platform
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, Protocol

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from edgeflow._proto.edgeflow.v1 import worker_pb2, worker_pb2_grpc
from edgeflow.errors import ConfigError
from edgeflow.kernels import AUTO, Executor, make_executor
from edgeflow.net.address import check_bind, join_address, split_bind
from edgeflow.net.guard import HEALTH_CHECK, TokenGuard
from edgeflow.net.security import Access
from edgeflow.net.transport.base import Listener
from edgeflow.net.transport.grpc_ import (
    MAX_STREAMS,
    METHOD,
    SERVER_OPTIONS,
    SERVICE,
    Exchange,
    GrpcTransport,
    bind_server,
)
from edgeflow.net.transport.routes import CHOICES, RoutedTransport
from edgeflow.net.transport.tcp import TcpTransport
from edgeflow.rank.pages import PagePool
from edgeflow.versions import installed_version
from edgeflow.worker.malloc import return_large_arrays
from edgeflow.worker.servicer import WorkerServicer
from edgeflow.worker.weights import WeightCache, default_folder
from edgeflow.worker.worker import Worker, default_memory_limit_bytes

logger = logging.getLogger(__name__)

#: Threads for control calls, in addition to those of the data plane's streams.
_CONTROL_THREADS: Final = 16

_STOP_GRACE_S: Final = 2.0
_TICK_S: Final = 5.0

#: Streams of the data plane prove that they belong to an epoch instead (`edgeflow.net.proof`).
_OPEN_METHODS: Final = (HEALTH_CHECK, f"/{SERVICE}/{METHOD}")

_SERVICES: Final = ("", worker_pb2.DESCRIPTOR.services_by_name["Worker"].full_name)


class WorkerServer:
    """A worker that listens.

    Args:
        bind: ``HOST:PORT``; port 0 takes a free one.
        executor: The back end.
        cache_dir: Where weights are kept; `default_folder` if None.
        memory_limit_bytes: What weights and buffers may take; half of the machine's memory if None.
        insecure: Allow a bind that other machines can reach, although nothing is encrypted.
        transport: With ``grpc`` no port is opened for frames; they go over the one server.
        data_port: The port for frames over TCP; 0 takes a free one.
        access: Certificates to show, and the join token that callers must show; neither if None.

    Raises:
        ConfigError: If an address cannot be had, or is not allowed.
    """

    def __init__(
        self,
        bind: str,
        *,
        executor: Executor,
        num_threads: int = 1,
        speed: float = 1.0,
        cache_dir: Path | None = None,
        memory_limit_bytes: int | None = None,
        insecure: bool = False,
        transport: str = "auto",
        data_port: int = 0,
        access: Access | None = None,
    ) -> None:
        if transport not in CHOICES:
            raise ConfigError(f"no transport {transport!r}; known: {', '.join(CHOICES)}")
        self.access = access = access or Access()
        check_bind(bind, insecure=insecure, access=access)
        limit_bytes = default_memory_limit_bytes() if memory_limit_bytes is None else memory_limit_bytes
        if limit_bytes <= 0:
            raise ConfigError(f"memory limit must be positive, got {limit_bytes:,} bytes")
        cache = WeightCache(cache_dir or default_folder())
        self._pool = ThreadPoolExecutor(MAX_STREAMS + _CONTROL_THREADS, thread_name_prefix="edgeflow-rpc")
        self._server = grpc.server(
            self._pool,
            options=SERVER_OPTIONS,
            interceptors=[TokenGuard(access, open_methods=_OPEN_METHODS)],
            # More calls would wait for a thread unnoticed; they are refused instead.
            maximum_concurrent_rpcs=MAX_STREAMS + _CONTROL_THREADS,
        )
        try:
            self.address = bind_server(self._server, bind, access.credentials)
        except ConfigError:
            self._pool.shutdown()
            raise
        pool = PagePool()
        tcp = TcpTransport(access.credentials, max_payload_bytes=limit_bytes, allocate=pool.empty)
        self.worker = Worker(
            executor=executor,
            transport=RoutedTransport(
                (tcp, GrpcTransport(access.credentials, max_payload_bytes=limit_bytes))
            ),
            cache=cache,
            memory_limit_bytes=limit_bytes,
            speed=speed,
            pool=pool,
        )
        self._listener: Listener | None = None
        data_ports: dict[str, int] = {}
        if transport != "grpc":
            host = split_bind(bind)[0]
            try:
                self._listener = tcp.listen(join_address(host, data_port), self.worker.accept)
            except ConfigError:
                self.worker.close()
                self._server.stop(None)
                self._pool.shutdown()
                raise
            data_ports["tcp"] = split_bind(self._listener.address)[1]
        self._exchange = Exchange(self.worker.accept, max_payload_bytes=limit_bytes)
        self._health = health.HealthServicer()
        servicer = WorkerServicer(
            self.worker,
            name=platform.node(),
            version=installed_version() or "unknown",
            num_threads=num_threads,
            data_ports=data_ports,
        )
        worker_pb2_grpc.add_WorkerServicer_to_server(servicer, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self._server.add_generic_rpc_handlers((self._exchange.handler,))
        self._server.start()
        for service in _SERVICES:
            self._health.set(service, health_pb2.HealthCheckResponse.SERVING)

    def stop(self) -> None:
        """Tell peers and clients, then end; no thread is left afterwards."""
        self._health.enter_graceful_shutdown()
        self.worker.close()
        if self._listener is not None:
            self._listener.close()
        self._exchange.close()
        self._server.stop(_STOP_GRACE_S).wait()
        self._pool.shutdown()


def serve(
    bind: str,
    *,
    threads: int = 1,
    speed: float = 1.0,
    executor: str = AUTO,
    device: str = "cpu",
    dtype: str | None = None,
    cache_dir: Path | None = None,
    memory_limit_bytes: int | None = None,
    insecure: bool = False,
    transport: str = "auto",
    data_port: int = 0,
    access: Access | None = None,
    name: str | None = None,
    join: str | None = None,
    advertise: str | None = None,
    mdns: bool = False,
    watch_stdin: bool = False,
    on_listening: Callable[[str], None] | None = None,
) -> None:
    """Run one worker until SIGTERM or SIGINT. Call it from the main thread.

    Args:
        bind: ``HOST:PORT``; port 0 takes a free one.
        threads: Threads that compute.
        speed: Below 1, a slower device is emulated.
        executor: Name of the back end; by default the best that is installed.
        device: What computes: ``cpu``, or by torch's name a GPU.
        dtype: Float dtype to compute in instead of 32 bits.
        cache_dir: Where weights are kept between runs.
        memory_limit_bytes: What weights and buffers may take; half of the machine's memory if None.
        insecure: Allow a bind that other machines can reach, although nothing is encrypted.
        transport: ``auto`` and ``tcp`` open a port for frames; ``grpc`` carries them over the one server.
        data_port: That port; 0 takes a free one.
        access: Certificates to show, and the join token that callers must show; neither if None.
        name: Of the device, for `join` and `mdns`; the host's if None.
        join: ``HOST:PORT`` of a registry to join.
        advertise: Where others reach the worker, for the registry.
        mdns: Announce the worker on the local network.
        watch_stdin: End also when standard input ends, as it does when the parent process dies.
        on_listening: Told the address; the default writes ``listening HOST:PORT`` to standard output.

    Raises:
        ConfigError: If an argument is wrong, or the address cannot be had.
    """
    check_bind(bind, insecure=insecure, access=access)
    return_large_arrays()
    stop = threading.Event()
    previous = {
        number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGTERM, signal.SIGINT)
    }
    server = WorkerServer(
        bind,
        executor=make_executor(executor, threads=threads, device=device, dtype=dtype),
        num_threads=threads,
        speed=speed,
        cache_dir=cache_dir,
        memory_limit_bytes=memory_limit_bytes,
        insecure=insecure,
        transport=transport,
        data_port=data_port,
        access=access,
    )
    announcers: list[Announcing] = []
    try:
        announcers += announce(
            server, name or platform.node(), num_threads=threads, join=join, advertise=advertise, mdns=mdns
        )
        logger.info("worker.listening", extra={"address": server.address})
        (on_listening or _announce)(server.address)
        if watch_stdin:
            threading.Thread(target=_wait_for_eof, args=(stop,), name="edgeflow-stdin", daemon=True).start()
        while not stop.wait(_TICK_S):
            server.worker.tick()
    finally:
        for announcer in announcers:
            announcer.close()
        server.stop()
        for number, handler in previous.items():
            signal.signal(number, handler)
    logger.info("worker.stopped", extra={"address": server.address})


class Announcing(Protocol):
    """An announcement of the worker, until it is closed."""

    def close(self) -> None: ...


def announce(
    server: WorkerServer, name: str, *, num_threads: int, join: str | None, advertise: str | None, mdns: bool
) -> Iterator[Announcing]:
    """Announce a worker in the ways asked for.

    Raises:
        ConfigError: If an address is malformed, or mDNS is not installed.
    """
    # Imported here: the registry's own server stands on this module.
    from edgeflow.worker.registry.announcer import Announcer, reachable_address
    from edgeflow.worker.registry.state import Member

    if join is not None:
        member = Member(
            name=name,
            address=advertise or reachable_address(server.address, join),
            num_threads=num_threads,
            memory_limit_bytes=server.worker.memory_limit_bytes,
            version=installed_version() or "unknown",
        )
        yield Announcer(join, member, access=server.access)
    if mdns:
        from edgeflow.worker.registry.mdns import MdnsAnnouncer

        yield MdnsAnnouncer(name, advertise or server.address)


def _announce(address: str) -> None:
    sys.stdout.write(f"listening {address}\n")
    sys.stdout.flush()


def _wait_for_eof(stop: threading.Event) -> None:
    while sys.stdin.buffer.read(4096):
        pass
    stop.set()
