"""Run the HTTP and the gRPC server of one model, in one event loop, until the process is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Callable
from typing import Final

import grpc.aio
import uvicorn

from edgeflow._proto import inference_pb2_grpc
from edgeflow.errors import ConfigError
from edgeflow.net.security import Credentials
from edgeflow.net.transport.grpc_ import bind_server
from edgeflow.serving.grpc_ import InferenceServicer
from edgeflow.serving.http import make_app
from edgeflow.serving.messages import max_body_bytes
from edgeflow.serving.service import ModelService

logger = logging.getLogger(__name__)

_STOP_GRACE_S: Final = 2.0

#: Connections allowed besides those with requests in flight: for probes and idle clients.
_SPARE_CONNECTIONS: Final = 256


def serve_model(
    service: ModelService,
    *,
    host: str,
    port: int,
    grpc_port: int,
    limit: int,
    server_version: str,
    credentials: Credentials | None = None,
    on_listening: Callable[[str, str], None] = lambda http, grpc: None,
) -> None:
    """Serve until SIGTERM or SIGINT; call it from the main thread.

    Args:
        host: Name or IP address at which to listen.
        port: Port of the HTTP server; 0 chooses a free one.
        grpc_port: Port of the gRPC server; 0 chooses a free one.
        limit: Limit of requests in flight; each server accepts 256 more connections (HTTP) or calls (gRPC).
        server_version: Version that the servers report.
        credentials: Certificate of the server; clients must then show one of the same authority.
        on_listening: Called with the addresses of both servers.

    Raises:
        ConfigError: If an address is malformed, in use, or not an address of this machine.
    """
    asyncio.run(_serve(service, host, port, grpc_port, limit, server_version, credentials, on_listening))


async def _serve(
    service: ModelService,
    host: str,
    port: int,
    grpc_port: int,
    limit: int,
    server_version: str,
    credentials: Credentials | None,
    on_listening: Callable[[str, str], None],
) -> None:
    listening = _bind(host, port)
    rpc = _grpc_server(service, server_version, limit)
    with contextlib.closing(listening):
        rpc_address = bind_server(rpc, f"{host}:{grpc_port}", credentials)
        config = uvicorn.Config(
            make_app(service, server_version=server_version),
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
            limit_concurrency=limit + _SPARE_CONNECTIONS,
            timeout_graceful_shutdown=int(_STOP_GRACE_S),
        )
        config.load()
        if credentials is not None:
            config.ssl = _server_context(credentials)
        http = uvicorn.Server(config)
        await rpc.start()
        scheme = "http" if credentials is None else "https"
        address = f"{scheme}://{host}:{listening.getsockname()[1]}"
        logger.info("serve.listening", extra={"http": address, "grpc": rpc_address})
        on_listening(address, rpc_address)
        try:
            await http.serve(sockets=[listening])
        finally:
            service.is_closing = True
            await rpc.stop(_STOP_GRACE_S)


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host.strip("[]"), port))
    except (OSError, OverflowError) as error:
        bound.close()
        raise ConfigError(f"cannot listen at {host}:{port}: {error}") from error
    return bound


def _grpc_server(service: ModelService, server_version: str, limit: int) -> grpc.aio.Server:
    server = grpc.aio.server(
        options=(
            ("grpc.max_receive_message_length", max_body_bytes(service.inputs)),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),
            ("grpc.server_handshake_timeout_ms", 10_000),
        ),
        maximum_concurrent_rpcs=limit + _SPARE_CONNECTIONS,
    )
    servicer = InferenceServicer(service, server_version=server_version)
    inference_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(servicer, server)
    return server


def _server_context(credentials: Credentials) -> ssl.SSLContext:
    return credentials.ssl_context(server=True)
