"""Both doors without a socket: who is admitted, how long it may take, what leaving does, what is refused."""

from __future__ import annotations

import asyncio
import json
import re
import struct
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

import grpc
import numpy as np
import pytest

import edgeflow as ef
from edgeflow._proto import inference_pb2 as pb
from edgeflow.errors import (
    ConfigError,
    DeadlineExceededError,
    EdgeflowError,
    OverloadedError,
    WorkerFailedError,
    WorkerOverloadedError,
    WorkerUnreachableError,
)

torch = pytest.importorskip("torch")
pytest.importorskip("starlette")
pytest.importorskip("prometheus_client")

from edgeflow.serving.grpc_ import InferenceServicer  # noqa: E402
from edgeflow.serving.http import make_app  # noqa: E402
from edgeflow.serving.messages import max_body_bytes  # noqa: E402
from edgeflow.serving.service import ModelService  # noqa: E402

BODY = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [2, 2], "data": [1.5, 2, 3, 4]}]}
RAW = np.arange(4, dtype=np.float32).tobytes()
INFER = "/v2/models/double/infer"


class Backend:
    """Doubles what it gets, when it is told to."""

    def __init__(self) -> None:
        self.futures: list[Future[Any]] = []
        self.is_slow = False
        self.error: Exception | None = None

    def submit(self, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.futures.append(future)
        if self.error is not None:
            future.set_exception(self.error)
        elif not self.is_slow:
            future.set_result(args[0] * 2)
        return future


@pytest.fixture(scope="module")
def graph() -> ef.ModelGraph:
    class Double(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * 2

    return ef.capture(Double(), (torch.zeros(2, 2),))


@pytest.fixture
def backend() -> Backend:
    return Backend()


@pytest.fixture
def service(graph: ef.ModelGraph, backend: Backend) -> ModelService:
    return ModelService("double", graph, backend, timeout_s=5.0, limit=2)


def infer(service: ModelService, *, timeout_s: float | None = None) -> Any:
    return service.infer({"x": np.ones((2, 2), np.float32)}, timeout_s=timeout_s, protocol="http")


def outcomes(service: ModelService) -> Counter[str]:
    """Requests by outcome, over both protocols."""
    samples = next(iter(service.metrics.requests.collect())).samples
    found: Counter[str] = Counter()
    for sample in samples:
        if sample.name.endswith("_total"):
            found[sample.labels["outcome"]] += int(sample.value)
    return found


def test_a_full_server_refuses_at_once_and_recovers(service: ModelService, backend: Backend) -> None:
    async def run() -> None:
        backend.is_slow = True
        waiting = [asyncio.create_task(infer(service)) for _ in range(2)]
        while len(backend.futures) < 2:
            await asyncio.sleep(0.001)
        with pytest.raises(WorkerOverloadedError, match="overloaded: 2 requests are in flight"):
            await infer(service)
        assert len(backend.futures) == 2  # the third reached nobody
        for future in backend.futures:
            future.set_result(np.zeros((2, 2), np.float32))
        await asyncio.gather(*waiting)
        backend.is_slow = False
        await infer(service)

    asyncio.run(run())
    assert outcomes(service) == {"answered": 3, "overloaded": 1}


def test_a_late_answer_is_an_error_and_its_request_ends(service: ModelService, backend: Backend) -> None:
    backend.is_slow = True
    with pytest.raises(DeadlineExceededError, match=r"no answer in 0\.020 s"):
        asyncio.run(infer(service, timeout_s=0.02))
    assert backend.futures[0].cancelled()
    assert outcomes(service) == {"late": 1}


def test_a_request_cannot_ask_for_more_time_than_the_server_gives(
    graph: ef.ModelGraph, backend: Backend
) -> None:
    backend.is_slow = True
    service = ModelService("double", graph, backend, timeout_s=0.02)
    with pytest.raises(DeadlineExceededError):
        asyncio.run(infer(service, timeout_s=1e6))


def test_who_leaves_ends_his_request(service: ModelService, backend: Backend) -> None:
    async def run() -> None:
        backend.is_slow = True
        task = asyncio.create_task(infer(service))
        while not backend.futures:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert backend.futures[0].cancelled()
    assert outcomes(service) == {"cancelled": 1}


class Answer:
    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""

    @property
    def json(self) -> Any:
        return json.loads(self.body)


async def ask_http(
    service: ModelService,
    path: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    *,
    leaves: bool = False,
) -> Answer:
    """Send one request to the application, as a server would hand it on."""
    answer = Answer()
    incoming: list[dict[str, Any]] = [{"type": "http.request", "body": body or b"", "more_body": False}]

    async def receive() -> dict[str, Any]:
        if incoming:
            return incoming.pop(0)
        if not leaves:
            await asyncio.Event().wait()
        await asyncio.sleep(0.05)
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            answer.headers = {key.decode(): value.decode() for key, value in message["headers"]}
        else:
            answer.body += message.get("body", b"")

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET" if body is None else "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "headers": [(key.encode(), value.encode()) for key, value in (headers or {}).items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
    }
    await make_app(service, server_version="1")(scope, receive, send)
    return answer


def http(
    service: ModelService,
    path: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    *,
    leaves: bool = False,
) -> Answer:
    return asyncio.run(ask_http(service, path, body, headers, leaves=leaves))


class Aborted(Exception):
    pass


class Context:
    """The context of one gRPC call, without a server."""

    def __init__(self) -> None:
        self.code: grpc.StatusCode | None = None

    def time_remaining(self) -> float | None:
        return None

    async def abort(self, code: grpc.StatusCode, details: str) -> None:
        self.code = code
        raise Aborted(details)


def test_both_protocols_refuse_what_is_beyond_the_limit(service: ModelService, backend: Backend) -> None:
    """A full service says so in the words of each protocol, and when to come again."""
    servicer = InferenceServicer(service, server_version="1")
    request = pb.ModelInferRequest(model_name="double", raw_input_contents=[RAW])
    request.inputs.add(name="x", datatype="FP32", shape=[2, 2])
    context = Context()

    async def run() -> tuple[Answer, Any]:
        backend.is_slow = True
        waiting = [asyncio.create_task(infer(service)) for _ in range(2)]
        while len(backend.futures) < 2:
            await asyncio.sleep(0.001)
        refused = await ask_http(service, INFER, json.dumps(BODY).encode())
        with pytest.raises(Aborted, match="overloaded: 2 requests are in flight"):
            await servicer.ModelInfer(request, context)
        assert len(backend.futures) == 2  # neither reached the backend
        for future in backend.futures:
            future.set_result(np.zeros((2, 2), np.float32))
        await asyncio.gather(*waiting)
        backend.is_slow = False
        return refused, await servicer.ModelInfer(request, Context())

    refused, answered = asyncio.run(run())
    assert refused.status == 429 and refused.headers["retry-after"] == "1"
    assert "overloaded: 2 requests are in flight" in refused.json["error"]
    assert context.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert struct.unpack("<4f", answered.raw_output_contents[0]) == (0, 2, 4, 6)
    assert outcomes(service) == {"answered": 3, "overloaded": 2}


def test_json_in_json_out(service: ModelService) -> None:
    answer = http(service, INFER, json.dumps({**BODY, "id": "a"}).encode())
    assert answer.status == 200
    (output,) = answer.json["outputs"]
    assert (output["datatype"], output["shape"], output["data"]) == ("FP32", [2, 2], [3, 4, 6, 8])
    assert (answer.json["id"], answer.json["model_name"], answer.json["model_version"]) == (
        "a",
        "double",
        "1",
    )


def test_raw_bytes_in_and_out(service: ModelService) -> None:
    header = json.dumps(
        {
            "inputs": [
                {"name": "x", "datatype": "FP32", "shape": [2, 2], "parameters": {"binary_data_size": 16}}
            ],
            "parameters": {"binary_data_output": True},
        }
    ).encode()
    answer = http(service, INFER, header + RAW, {"Inference-Header-Content-Length".lower(): str(len(header))})
    assert answer.status == 200
    length = int(answer.headers["inference-header-content-length"])
    assert json.loads(answer.body[:length])["outputs"][0]["parameters"] == {"binary_data_size": 16}
    assert struct.unpack("<4f", answer.body[length:]) == (0, 2, 4, 6)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (WorkerOverloadedError("full"), 429),
        (OverloadedError("too many requests wait"), 429),
        (DeadlineExceededError("late"), 504),
        (WorkerUnreachableError("gone"), 503),
        (ConfigError("wrong"), 400),
        (WorkerFailedError("broken"), 500),
    ],
)
def test_errors_have_their_status(
    service: ModelService, backend: Backend, error: EdgeflowError, status: int
) -> None:
    backend.error = error
    answer = http(service, INFER, json.dumps(BODY).encode())
    assert (answer.status, answer.json) == (status, {"error": str(error)})
    assert answer.headers.get("retry-after") == ("1" if status == 429 else None)
    assert outcomes(service).get("overloaded", 0) == (status == 429)


def test_what_is_not_ours_is_not_told(
    service: ModelService, backend: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    backend.error = OSError("/home/me/secret: permission denied")
    answer = http(service, INFER, json.dumps(BODY).encode())
    assert answer.status == 500 and b"secret" not in answer.body


def test_a_client_that_hangs_up_ends_its_request(service: ModelService, backend: Backend) -> None:
    backend.is_slow = True
    http(service, INFER, json.dumps(BODY).encode(), leaves=True)
    assert backend.futures[0].cancelled()
    assert outcomes(service) == {"cancelled": 1}


def test_readiness_follows_the_backend(graph: ef.ModelGraph, backend: Backend) -> None:
    is_ready = True
    service = ModelService("double", graph, backend, timeout_s=5.0, is_ready=lambda: is_ready)
    paths = ("/v2/health/ready", "/v2/models/double/ready", "/v2/models/double/versions/1/ready")
    assert [http(service, path).status for path in paths] == [200] * 3
    is_ready = False
    assert [http(service, path).status for path in paths] == [503] * 3
    assert http(service, "/v2/health/live").status == 200
    assert b"edgeflow_serve_ready 0.0" in http(service, "/metrics").body


def test_metrics_alone_set_the_readiness_gauge(graph: ef.ModelGraph, backend: Backend) -> None:
    service = ModelService("double", graph, backend, timeout_s=5.0, is_ready=lambda: True)
    assert b"edgeflow_serve_ready 1.0" in http(service, "/metrics").body


@pytest.mark.parametrize(
    "path", ["/v2/models/other/infer", "/v2/models/double/versions/2/infer", "/v2/models/..%2f/infer"]
)
def test_other_models_are_not_here(service: ModelService, path: str) -> None:
    assert http(service, path, b"{}").status == 404


def changed(**changes: Any) -> bytes:
    return json.dumps({"inputs": [{**BODY["inputs"][0], **changes}]}).encode()


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "truncated"),
        (b"[1]", "Expected `object`"),
        (b"\xff\xfe", "request:"),
        (b"[" * 100_000, "request:"),
        (b'{"inputs": []}', "got none"),
        (changed(shape=[4]), r"takes FP32\[2, 2\], got FP32\[4\]"),
        (changed(shape=[-2, -2]), "takes FP32"),
        (changed(shape=[1 << 62, 1 << 62]), "takes FP32"),
        (changed(shape=[2] * 10_000), "takes FP32"),
        (changed(datatype="BYTES"), "takes FP32"),
        (changed(data=[1, 2, 3]), "takes 4 values, got 3"),
        (changed(data=[1, 2, 3, 4, 5]), "takes 4 values, got 5"),
        (changed(data=["1", 2, 3, 4]), "not a value of FP32"),
        (changed(data=[True, 2, 3, 4]), "not a value of FP32"),
        (changed(data=[[[[1, 2, 3, 4]]]]), "nested more deeply"),
        (changed(data=None), "got 1"),
        (changed(name="y"), "takes the inputs x; got y"),
        (changed(data=None, parameters={"binary_data_size": 16}), "0 bytes are left"),
        (changed(data=None, parameters={"binary_data_size": -1}), "binary_data_size -1"),
        (changed(parameters={"binary_data_size": 0}), "both data and binary data"),
    ],
)
def test_bad_requests_say_what_is_wrong(service: ModelService, body: bytes, says: str) -> None:
    answer = http(service, INFER, body)
    assert answer.status == 400
    assert re.search(says, answer.json["error"]), answer.json


@pytest.mark.parametrize("length", ["-1", "999", "1e3", "", "0x10", "9" * 400])
def test_a_header_length_outside_of_the_body(service: ModelService, length: str) -> None:
    answer = http(service, INFER, json.dumps(BODY).encode(), {"inference-header-content-length": length})
    assert answer.status == 400


def test_a_body_that_is_too_long_is_not_read(service: ModelService, backend: Backend) -> None:
    limit = max_body_bytes(service.inputs)
    assert http(service, INFER, b"x", {"content-length": str(limit + 1)}).status == 413
    assert http(service, INFER, bytes(limit + 1)).status == 413  # without a length, or with a wrong one
    assert not backend.futures


def test_compressed_bodies_are_not_unpacked(service: ModelService) -> None:
    import gzip

    bomb = gzip.compress(bytes(10_000_000))
    assert http(service, INFER, bomb, {"content-encoding": "gzip"}).status == 415
