"""A worker's side of a registry: it joins, renews, joins again after the registry was down, and leaves."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import random
import socket
import threading
from typing import Any, Final

import grpc

from edgeflow._proto.edgeflow.v1 import registry_pb2 as pb
from edgeflow._proto.edgeflow.v1 import registry_pb2_grpc
from edgeflow.errors import ConfigError
from edgeflow.net.rpc_errors import from_rpc_error
from edgeflow.net.security import Access
from edgeflow.net.transport.grpc_ import open_channel
from edgeflow.net.transport.routes import check_address
from edgeflow.worker.registry.state import Member

logger = logging.getLogger(__name__)

_TIMEOUT_S: Final = 5.0
_MIN_WAIT_S: Final = 0.05
_FIRST_RETRY_S: Final = 0.5
_MAX_RETRY_S: Final = 10.0


class Announcer:
    """Keeps one worker a member of one registry, from a thread of its own.

    A registry that does not answer is tried again, with growing waits; the worker works meanwhile.

    Args:
        registry: ``HOST:PORT``.
        member: The worker's description of itself.

    Raises:
        ConfigError: If ``registry`` is not an address.
    """

    def __init__(self, registry: str, member: Member, *, access: Access | None = None) -> None:
        check_address(registry)
        self._registry = registry
        self._member = member
        access = access or Access()
        self._metadata = access.metadata
        self._channel = open_channel(registry, access.credentials)
        self._stub = registry_pb2_grpc.RegistryStub(self._channel)
        self._stop = threading.Event()
        self._member_id = ""
        self._interval_s = _FIRST_RETRY_S
        self._thread = threading.Thread(target=self._run, name="edgeflow-announcer", daemon=True)
        self._thread.start()

    @property
    def is_member(self) -> bool:
        return bool(self._member_id)

    def close(self) -> None:
        """Leave."""
        self._stop.set()
        self._thread.join()
        if self._member_id:
            with contextlib.suppress(grpc.RpcError):
                self._call("Leave", pb.LeaveRequest(member_id=self._member_id), timeout_s=1.0)
        self._channel.close()

    def _run(self) -> None:
        retry_s = _FIRST_RETRY_S
        while not self._stop.is_set():
            try:
                if self._member_id:
                    self._renew()
                else:
                    self._join()
                retry_s, wait_s = _FIRST_RETRY_S, self._interval_s
            except grpc.RpcError as error:
                reason = from_rpc_error(error, where=f"registry {self._registry}")
                logger.warning("registry.unreachable", extra={"reason": str(reason)})
                # Many workers must not come back at the same moment.
                wait_s = random.uniform(retry_s / 2, retry_s)
                retry_s = min(2 * retry_s, _MAX_RETRY_S)
            self._stop.wait(wait_s)

    def _join(self) -> None:
        member = self._member
        answer = self._call(
            "Register",
            pb.RegisterRequest(
                name=member.name,
                address=member.address,
                num_threads=member.num_threads,
                memory_limit_bytes=member.memory_limit_bytes,
                version=member.version,
            ),
        )
        self._member_id = answer.member_id
        self._interval_s = min(60.0, max(_MIN_WAIT_S, answer.heartbeat_interval_s))
        logger.info("registry.joined", extra={"registry": self._registry, "worker": member.name})

    def _renew(self) -> None:
        if not self._call("Heartbeat", pb.HeartbeatRequest(member_id=self._member_id)).is_known:
            self._member_id = ""
            self._join()

    def _call(self, method: str, request: Any, *, timeout_s: float = _TIMEOUT_S) -> Any:
        return getattr(self._stub, method)(request, timeout=timeout_s, metadata=self._metadata)


def reachable_address(listening: str, registry: str) -> str:
    """Return where others reach a worker that listens at ``listening``.

    A wildcard such as ``0.0.0.0`` becomes the address of the interface that leads to the registry.

    Raises:
        ConfigError: If nothing leads there.
    """
    host, _, port = listening.rpartition(":")
    try:
        is_wildcard = ipaddress.ip_address(host.strip("[]")).is_unspecified
    except ValueError:
        is_wildcard = False
    if not is_wildcard:
        return listening
    towards, _, towards_port = registry.rpartition(":")
    try:
        family, kind, _, _, target = socket.getaddrinfo(
            towards.strip("[]"), int(towards_port), type=socket.SOCK_DGRAM
        )[0]
        with socket.socket(family, kind) as probe:
            probe.connect(target)  # sends nothing
            own: str = probe.getsockname()[0]
    except (OSError, ValueError) as error:
        raise ConfigError(f"no way leads to {registry}: {error}; say --advertise HOST:PORT") from error
    return f"[{own}]:{port}" if ":" in own else f"{own}:{port}"
