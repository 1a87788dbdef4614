"""A registry behind a gRPC server: it checks the workers' descriptions and tells its listeners."""

from __future__ import annotations

import logging
import re
import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from edgeflow._proto.edgeflow.v1 import registry_pb2 as pb
from edgeflow._proto.edgeflow.v1 import registry_pb2_grpc
from edgeflow.errors import ConfigError
from edgeflow.net.address import check_bind
from edgeflow.net.guard import TokenGuard
from edgeflow.net.rpc_errors import translated
from edgeflow.net.security import Access
from edgeflow.net.transport.grpc_ import SERVER_OPTIONS, bind_server
from edgeflow.net.transport.routes import check_address
from edgeflow.worker.registry import state as s

logger = logging.getLogger(__name__)

HEARTBEAT_S: Final = 2.0
#: Renewals that a member may miss before it counts as gone.
_NUM_MISSED: Final = 4
_NUM_THREADS: Final = 8
_STOP_GRACE_S: Final = 0.5

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")

#: Told of a worker: its address, and what it says of itself.
Listener = Callable[[str, s.Member], None]


class RegistryServer:
    """A registry that listens.

    Args:
        bind: ``HOST:PORT``; port 0 takes a free one.
        access: Certificates to show, and the join token that workers must show.
        on_join: Told of each worker that joins. Calls come one at a time, in order.
        on_leave: Told of each that leaves.
        insecure: Allow a bind that other machines can reach, although nothing is encrypted.
        heartbeat_s: Time between two renewals of a member.

    Raises:
        ConfigError: If the address cannot be had, or is not allowed.
    """

    def __init__(
        self,
        bind: str,
        *,
        access: Access | None = None,
        on_join: Listener = lambda address, member: None,
        on_leave: Listener = lambda address, member: None,
        insecure: bool = False,
        heartbeat_s: float = HEARTBEAT_S,
    ) -> None:
        access = access or Access()
        check_bind(bind, insecure=insecure, access=access)
        self._on_join = on_join
        self._on_leave = on_leave
        self._heartbeat_s = heartbeat_s
        self._state = s.RegistryState(ttl_s=heartbeat_s * _NUM_MISSED)
        self._lock = threading.RLock()
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(_NUM_THREADS, thread_name_prefix="edgeflow-registry")
        self._server = grpc.server(
            self._pool,
            options=(*SERVER_OPTIONS, ("grpc.max_receive_message_length", 64 << 10)),
            interceptors=[TokenGuard(access)],
            maximum_concurrent_rpcs=2 * s.MAX_MEMBERS,
        )
        try:
            self.address = bind_server(self._server, bind, access.credentials)
        except ConfigError:
            self._pool.shutdown()
            raise
        registry_pb2_grpc.add_RegistryServicer_to_server(_Servicer(self), self._server)
        self._health = health.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self._health.set("", health_pb2.HealthCheckResponse.SERVING)
        self._ticker = threading.Thread(target=self._tick, name="edgeflow-registry-tick", daemon=True)
        self._server.start()
        self._ticker.start()

    @property
    def members(self) -> tuple[s.Member, ...]:
        with self._lock:
            return self._state.members

    def stop(self) -> None:
        """End; listeners are not told that members leave."""
        self._stop.set()
        self._ticker.join()
        self._server.stop(_STOP_GRACE_S).wait()
        self._pool.shutdown()

    def register(self, member: s.Member) -> tuple[str, float]:
        """Take a member; return its id and the time between its renewals.

        Raises:
            ConfigError: If its name or its address is malformed.
            WorkerOverloadedError: If there is no room.
        """
        if not _NAME.fullmatch(member.name):
            raise ConfigError(f"{member.name[:80]!r} cannot be the name of a device")
        check_address(member.address)
        member_id = secrets.token_hex(16)
        self._handle(s.Joined(member_id, member, time.monotonic()))
        return member_id, self._heartbeat_s

    def renew(self, member_id: str) -> bool:
        """Return whether the member is known; if so, its time to live begins anew."""
        with self._lock:
            self._handle(s.Renewed(member_id, time.monotonic()))
            return self._state.is_known(member_id)

    def leave(self, member_id: str) -> None:
        self._handle(s.Left(member_id))

    def _tick(self) -> None:
        while not self._stop.wait(self._heartbeat_s / 2):
            self._handle(s.Tick(time.monotonic()))

    def _handle(self, event: s.RegistryEvent) -> None:
        # The lock is held while listeners are told, so that they are told in order.
        with self._lock:
            for instruction in self._state.handle(event):
                match instruction:
                    case s.TellJoined(member):
                        logger.info("worker.joined", extra={"worker": member.name, "address": member.address})
                        self._tell(self._on_join, member)
                    case s.TellLeft(member, reason):
                        logger.info("worker.left", extra={"worker": member.name, "reason": reason})
                        self._tell(self._on_leave, member)

    def _tell(self, listener: Listener, member: s.Member) -> None:
        try:
            listener(member.address, member)
        except Exception:  # a listener's mistake must not cost the worker its membership
            logger.exception("registry.listener_failed", extra={"worker": member.name})


class _Servicer(registry_pb2_grpc.RegistryServicer):
    """Translates between protobuf messages and `RegistryServer`, and does nothing else."""

    def __init__(self, registry: RegistryServer) -> None:
        self._registry = registry

    def Register(self, request: pb.RegisterRequest, context: grpc.ServicerContext) -> pb.RegisterResponse:
        with translated(context):
            member = s.Member(
                name=request.name,
                address=request.address,
                num_threads=request.num_threads,
                memory_limit_bytes=request.memory_limit_bytes,
                version=request.version[:80],
            )
            member_id, interval_s = self._registry.register(member)
            return pb.RegisterResponse(member_id=member_id, heartbeat_interval_s=interval_s)

    def Heartbeat(self, request: pb.HeartbeatRequest, context: grpc.ServicerContext) -> pb.HeartbeatResponse:
        with translated(context):
            return pb.HeartbeatResponse(is_known=self._registry.renew(request.member_id))

    def Leave(self, request: pb.LeaveRequest, context: grpc.ServicerContext) -> pb.LeaveResponse:
        with translated(context):
            self._registry.leave(request.member_id)
            return pb.LeaveResponse()
