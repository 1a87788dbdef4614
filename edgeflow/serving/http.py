"""Serve a model over HTTP: health, metadata, inference and metrics."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable
from typing import Any, Final, TypeVar

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from edgeflow.errors import EdgeflowError
from edgeflow.net.statuses import RETRY_AFTER_S, status_of
from edgeflow.serving import metrics
from edgeflow.serving.messages import (
    HEADER_LENGTH,
    decode_request,
    encode_answer,
    max_body_bytes,
)
from edgeflow.serving.service import ModelService, sentence

T = TypeVar("T")

PLATFORM: Final = "edgeflow"
EXTENSIONS: Final = ("binary_tensor_data",)

#: Time limit for a request's body.
BODY_TIMEOUT_S: Final = 30.0


class _Refusal(Exception):
    """A request is refused with an HTTP status and a message."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def make_app(service: ModelService, *, server_version: str) -> Starlette:
    """Return the ASGI application that serves ``service``."""
    door = _Door(service, server_version)
    model = "/v2/models/{model}"
    routes = [
        Route("/v2", door.server),
        Route("/v2/health/live", door.live),
        Route("/v2/health/ready", door.ready),
        Route("/metrics", door.metrics),
    ]
    for prefix in (model, f"{model}/versions/{{version}}"):
        routes += [
            Route(prefix, door.metadata),
            Route(f"{prefix}/ready", door.model_ready),
            Route(f"{prefix}/infer", door.infer, methods=["POST"]),
        ]
    return Starlette(routes=routes)


class _Door:
    def __init__(self, service: ModelService, server_version: str) -> None:
        self._service = service
        self._server_version = server_version
        self._max_body_bytes = max_body_bytes(service.inputs)

    async def live(self, request: Request) -> Response:
        return Response()

    async def ready(self, request: Request) -> Response:
        return Response(status_code=200 if self._service.is_ready else 503)

    async def server(self, request: Request) -> Response:
        return JSONResponse(
            {"name": PLATFORM, "version": self._server_version, "extensions": list(EXTENSIONS)}
        )

    async def metrics(self, request: Request) -> Response:
        self._service.metrics.ready.set(self._service.is_ready)
        return Response(self._service.metrics.text(), media_type=metrics.CONTENT_TYPE)

    async def model_ready(self, request: Request) -> Response:
        if not self._is_meant(request):
            return _no_model(request)
        return Response(status_code=200 if self._service.is_ready else 503)

    async def metadata(self, request: Request) -> Response:
        if not self._is_meant(request):
            return _no_model(request)
        service = self._service
        return JSONResponse(
            {
                "name": service.name,
                "versions": [service.version],
                "platform": PLATFORM,
                "inputs": [info._asdict() for info in service.inputs],
                "outputs": [info._asdict() for info in service.outputs],
            }
        )

    async def infer(self, request: Request) -> Response:
        if not self._is_meant(request):
            return _no_model(request)
        service = self._service
        try:
            body = await self._body(request)
            asked = await asyncio.to_thread(
                decode_request, body, request.headers.get(HEADER_LENGTH), service.inputs, service.outputs
            )
            answer = await _unless_gone(
                request, service.infer(asked.inputs, timeout_s=asked.timeout_s, protocol="http")
            )
            data, header_length = await asyncio.to_thread(
                encode_answer, service.name, service.version, asked, answer
            )
        except _Refusal as refusal:
            return _error(refusal.status, str(refusal))
        except ClientDisconnect:
            return Response(status_code=499)  # for the log: the client has gone
        except EdgeflowError as error:
            return _error(status_of(error).http, sentence(error))
        except Exception as error:
            return _error(500, sentence(error))
        if header_length is None:
            return Response(data, media_type="application/json")
        headers = {HEADER_LENGTH: str(header_length)}
        return Response(data, media_type="application/octet-stream", headers=headers)

    def _is_meant(self, request: Request) -> bool:
        return self._service.is_called(request.path_params["model"], request.path_params.get("version", ""))

    async def _body(self, request: Request) -> bytes:
        """Return the body; refuse one that is larger than any valid request for this model."""
        encoding = request.headers.get("content-encoding", "identity")
        if encoding != "identity":
            # The unpacked size cannot be known beforehand.
            raise _Refusal(415, f"content-encoding {encoding[:40]!r} is not supported")
        length = request.headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > self._max_body_bytes:
            raise _Refusal(
                413, f"a body of {length[:20]} bytes, the limit for this model is {self._max_body_bytes:,}"
            )
        body = bytearray()
        try:
            async with asyncio.timeout(BODY_TIMEOUT_S):
                async for chunk in request.stream():
                    body += chunk
                    if len(body) > self._max_body_bytes:
                        raise _Refusal(413, f"a body of more than {self._max_body_bytes:,} bytes")
        except TimeoutError:
            raise _Refusal(408, f"the body did not arrive in {BODY_TIMEOUT_S:.0f} s") from None
        return bytes(body)


async def _unless_gone(request: Request, work: Awaitable[T]) -> T:
    """Return the result of ``work``.

    Raises:
        ClientDisconnect: If the client disconnects first; ``work`` is then cancelled.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.create_task(_gone(request))
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientDisconnect
    finally:
        for each in (task, gone):
            each.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await each


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _no_model(request: Request) -> Response:
    name = request.path_params["model"]
    return _error(404, f"there is no model {name[:80]!r} of that version")


def _error(status: int, text: str) -> Response:
    answer: dict[str, Any] = {"error": text}
    headers = {"retry-after": str(RETRY_AFTER_S)} if status == 429 else None
    return JSONResponse(answer, status_code=status, headers=headers)
