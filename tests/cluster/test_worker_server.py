"""A worker as strangers meet it: its control calls, its data plane, and what it refuses."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import edgeflow as ef
from edgeflow._proto.edgeflow.v1 import worker_pb2 as pb
from edgeflow._proto.edgeflow.v1 import worker_pb2_grpc
from edgeflow.errors import (
    CodecError,
    ConfigError,
    EdgeflowError,
    StalePlanError,
    UnsupportedOperatorError,
    WorkerUnreachableError,
)
from edgeflow.kernels import available_executors, make_executor
from edgeflow.net.address import check_bind
from edgeflow.net.content import content_of
from edgeflow.net.proof import prove
from edgeflow.net.rpc_errors import from_rpc_error
from edgeflow.net.transport.base import Hello
from edgeflow.net.transport.grpc_ import METHOD, SERVICE, GrpcTransport
from edgeflow.net.wire import CHUNK_BYTES, PROTOCOL_VERSION, Frame, Header, Kind
from edgeflow.net.wire import encode as encode_frame
from edgeflow.plan.program import CLIENT, Program, encode
from edgeflow.worker import WorkerServer
from tests.clusters import slow

torch = pytest.importorskip("torch")

TIMEOUT_S = 10.0
EPOCH = 77
KEY = bytes(32)


@pytest.fixture
def address(workers: Any) -> str:
    (address,) = workers.start(1, memory_limit_bytes=10_000_000)
    return str(address)


@pytest.fixture
def channel(address: str) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(address) as channel:
        yield channel


@pytest.fixture
def stub(channel: grpc.Channel) -> Any:
    return worker_pb2_grpc.WorkerStub(channel)


@pytest.fixture(scope="module")
def linear() -> ef.Plan:
    """One linear layer on one device."""
    torch.manual_seed(0)
    graph = ef.capture(torch.nn.Linear(4, 3).eval(), (torch.zeros(2, 4),))
    return ef.plan(graph, ef.Cluster.local([1.0]), strategy="single")


def prepare_request(plan: ef.Plan, **changes: Any) -> pb.PrepareRequest:
    program = plan.programs[0]
    contents = [content_of(np.asarray(plan.graph.weights[w.tensor]), dtype=w.dtype) for w in program.weights]
    fields = {
        "epoch": EPOCH,
        "rank": 0,
        "program_json": encode(program),
        "peers": {0: "127.0.0.1:1"},
        "weights": [
            pb.WeightContent(content_hash=c.content_hash, dtype=c.dtype, shape=c.shape) for c in contents
        ],
        "epoch_key": KEY,
    }
    return pb.PrepareRequest(**{**fields, **changes})


def chunks(plan: ef.Plan, **changes: Any) -> Iterator[pb.LoadWeightsRequest]:
    yield pb.LoadWeightsRequest(epoch=EPOCH)
    for w in plan.programs[0].weights:
        array = np.asarray(plan.graph.weights[w.tensor])
        fields = {
            "epoch": EPOCH,
            "content_hash": content_of(array, dtype=w.dtype).content_hash,
            "data": array.tobytes(),
        }
        yield pb.LoadWeightsRequest(**{**fields, **changes})


def call(method: Any, request: Any) -> Any:
    """Make a call; raise our error."""
    try:
        return method(request, timeout=TIMEOUT_S)
    except grpc.RpcError as error:
        raise from_rpc_error(error, where="worker") from error


@pytest.fixture
def committed(stub: Any, linear: ef.Plan) -> Iterator[Any]:
    call(stub.Prepare, prepare_request(linear))
    call(stub.LoadWeights, chunks(linear))
    call(stub.Commit, pb.CommitRequest(epoch=EPOCH))
    yield stub
    call(stub.Abort, pb.AbortRequest(epoch=EPOCH))


# Control.


def test_describe_says_what_the_worker_is(stub: Any) -> None:
    said = call(stub.Describe, pb.DescribeRequest())
    assert said.version and said.protocol_version == PROTOCOL_VERSION
    assert next(iter(said.executors)) == "torch" and set(said.executors) == set(available_executors())
    assert said.num_threads == 1 and said.speed == 1.0
    assert said.memory_limit_bytes == 10_000_000 and said.monotonic_s > 0
    assert "conv2d" in said.operators and "from_file" not in said.operators


@pytest.mark.parametrize("service", ["", "edgeflow.v1.Worker"])
def test_health_is_the_standard_one(channel: grpc.Channel, service: str) -> None:
    answer = health_pb2_grpc.HealthStub(channel).Check(
        health_pb2.HealthCheckRequest(service=service), timeout=TIMEOUT_S
    )
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_an_epoch_goes_through_its_phases(stub: Any, linear: ef.Plan) -> None:
    def phase() -> Any:
        return [item.phase for item in call(stub.Describe, pb.DescribeRequest()).epochs]

    assert len(call(stub.Prepare, prepare_request(linear)).missing) == 2
    assert phase() == [pb.EPOCH_PHASE_PREPARED]
    assert call(stub.LoadWeights, chunks(linear)).received_bytes == 60
    assert phase() == [pb.EPOCH_PHASE_READY]
    call(stub.Commit, pb.CommitRequest(epoch=EPOCH))
    assert phase() == [pb.EPOCH_PHASE_COMMITTED]
    call(stub.Release, pb.ReleaseRequest(epoch=EPOCH))
    assert phase() == []
    assert list(call(stub.Prepare, prepare_request(linear, epoch=EPOCH + 1)).missing) == []
    call(stub.Abort, pb.AbortRequest(epoch=EPOCH + 1))


def test_an_operator_that_is_not_allowed_is_refused_with_its_name(stub: Any, linear: ef.Plan) -> None:
    text = encode(linear.programs[0]).replace(b"aten.linear.default", b"aten.from_file.default")
    with pytest.raises(UnsupportedOperatorError, match=r"aten\.from_file\.default") as caught:
        call(stub.Prepare, prepare_request(linear, program_json=text))
    assert caught.value.operator == "aten.from_file.default"


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"program_json": b"{"}, CodecError, "program"),
        ({"rank": 1}, ConfigError, "for rank 0"),
        ({"weights": []}, ConfigError, "2 weight slices, but the contents of 0"),
        (
            {"weights": [pb.WeightContent(content_hash="../../x", dtype="float32", shape=[3, 4])] * 2},
            CodecError,
            "not a content hash",
        ),
        (
            {"weights": [pb.WeightContent(content_hash="0" * 64, dtype="float32", shape=[3, 4])] * 2},
            ConfigError,
            "in the program",
        ),
    ],
)
def test_bad_preparations(stub: Any, linear: ef.Plan, changes: Any, error: Any, says: str) -> None:
    with pytest.raises(error, match=says):
        call(stub.Prepare, prepare_request(linear, **changes))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"data": b"\0" * 48}, "is not"),
        ({"offset_bytes": 4}, "a chunk at 4, 0 was due"),
        ({"content_hash": "../../etc/passwd"}, "was not asked for"),
        ({"content_hash": "0" * 64}, "was not asked for"),
        ({"data": b"x"}, "bytes arrived"),
        ({"data": b"x" * (CHUNK_BYTES + 1)}, "at most 1,048,576"),
    ],
)
def test_bad_weights(stub: Any, linear: ef.Plan, workers: Any, changes: Any, says: str) -> None:
    call(stub.Prepare, prepare_request(linear))
    with pytest.raises(CodecError, match=says):
        call(stub.LoadWeights, chunks(linear, **changes))
    call(stub.Abort, pb.AbortRequest(epoch=EPOCH))
    # What was right may stay, the rest must not.
    names = [path.name for path in workers.servers[0].worker._cache._folder.iterdir()]
    assert all(len(name) == 64 for name in names) and len(names) <= 1


def test_no_weights_at_all(stub: Any, linear: ef.Plan) -> None:
    call(stub.Prepare, prepare_request(linear))
    with pytest.raises(EdgeflowError, match="not in the cache"):
        call(stub.LoadWeights, iter([pb.LoadWeightsRequest(epoch=EPOCH)]))
    with pytest.raises(CodecError, match="first message"):
        call(stub.LoadWeights, iter([]))
    call(stub.Abort, pb.AbortRequest(epoch=EPOCH))


@pytest.mark.parametrize("method", ["Commit", "Report", "LoadWeights"])
def test_calls_for_an_unknown_epoch(stub: Any, method: str) -> None:
    request: Any = getattr(pb, f"{method}Request")(epoch=5)
    with pytest.raises(StalePlanError, match="epoch 5"):
        call(getattr(stub, method), iter([request]) if method == "LoadWeights" else request)


def test_a_peer_that_cannot_be_dialled_fails_the_commit(stub: Any) -> None:
    torch.manual_seed(0)
    conv = torch.nn.Sequential(*(torch.nn.Conv2d(3, 3, 3, padding=1) for _ in range(2))).eval()
    graph = ef.capture(conv, (torch.zeros(1, 3, 64, 64),))
    plan = ef.plan(graph, slow([1.0, 1.0]), strategy="coedge")
    call(stub.Prepare, prepare_request(plan, peers={0: "127.0.0.1:1", 1: "127.0.0.1:1"}))
    call(stub.LoadWeights, chunks(plan))
    with pytest.raises(WorkerUnreachableError, match=r"127\.0\.0\.1:1 cannot be reached: no answer in 0\."):
        try:
            stub.Commit(pb.CommitRequest(epoch=EPOCH), timeout=1.0)
        except grpc.RpcError as error:
            raise from_rpc_error(error, where="worker") from error
    call(stub.Abort, pb.AbortRequest(epoch=EPOCH))


@given(data=st.binary(max_size=300))
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize("method", ["Prepare", "Commit", "Abort", "Release", "Report", "Describe"])
def test_noise_in_control_calls_is_refused(channel: grpc.Channel, method: str, data: bytes) -> None:
    raw = channel.unary_unary(
        f"/edgeflow.v1.Worker/{method}", request_serializer=None, response_deserializer=None
    )
    try:
        raw(data, timeout=TIMEOUT_S)
    except grpc.RpcError as error:
        assert error.code() not in (grpc.StatusCode.UNKNOWN, grpc.StatusCode.DEADLINE_EXCEEDED), error


# The data plane.


class Client:
    """The client's end of a connection, by hand."""

    def __init__(self) -> None:
        self.frames: queue.SimpleQueue[Frame] = queue.SimpleQueue()
        self.lost: queue.SimpleQueue[EdgeflowError | None] = queue.SimpleQueue()

    def admit(self, header: Header) -> None:
        pass

    def on_frame(self, frame: Frame) -> None:
        self.frames.put(frame)

    def on_lost(self, error: EdgeflowError | None) -> None:
        self.lost.put(error)


@pytest.fixture
def transport() -> Iterator[GrpcTransport]:
    transport = GrpcTransport()
    yield transport
    transport.close()


def hello(epoch: int, rank: int) -> Hello:
    return prove(KEY, epoch, source=rank, target=0)


def tags(program: Program) -> tuple[int, int]:
    receive, send = program.instructions[0], program.instructions[-2]
    return receive.tag, send.tag  # type: ignore[union-attr]


def question(plan: ef.Plan, **changes: Any) -> Frame:
    fields: dict[str, Any] = {
        "kind": Kind.TENSOR,
        "epoch": EPOCH,
        "source": CLIENT,
        "request_id": 1,
        "tag": tags(plan.programs[0])[0],
        "array": np.ones((2, 4), np.float32),
    }
    return Frame(**{**fields, **changes})


def test_a_request_by_hand(committed: Any, address: str, linear: ef.Plan, transport: GrpcTransport) -> None:
    client = Client()
    connection = transport.dial(address, hello(EPOCH, CLIENT), client, timeout_s=TIMEOUT_S)
    for request_id in (1, 2):
        connection.send(question(linear, request_id=request_id))
        frame = client.frames.get(timeout=TIMEOUT_S)
        assert (frame.kind, frame.request_id, frame.source) == (Kind.TENSOR, request_id, 0)
        assert frame.array.shape == (2, 3)
    report = call(committed.Report, pb.ReportRequest(epoch=EPOCH, min_request_id=2))
    assert [record.request_id for record in report.requests] in ([], [2])
    assert report.peak_memory_bytes > 1_000_000


@pytest.mark.parametrize(("epoch", "rank"), [(EPOCH + 1, CLIENT), (EPOCH, 0), (EPOCH, 5), (EPOCH, -2)])
def test_strangers_are_not_let_in(
    committed: Any, address: str, transport: GrpcTransport, epoch: int, rank: int
) -> None:
    with pytest.raises(StalePlanError, match="epoch"):
        transport.dial(address, hello(epoch, rank), Client(), timeout_s=TIMEOUT_S)


def test_one_client_an_epoch(committed: Any, address: str, transport: GrpcTransport) -> None:
    transport.dial(address, hello(EPOCH, CLIENT), Client(), timeout_s=TIMEOUT_S)
    with pytest.raises(StalePlanError, match="no connection from rank -1 is due"):
        transport.dial(address, hello(EPOCH, CLIENT), Client(), timeout_s=TIMEOUT_S)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"array": np.ones((2, 5), np.float32)}, r"float32\[2, 5\], not float32\[2, 4\]"),
        ({"array": np.ones((2, 4), np.float64)}, r"float64\[2, 4\], not float32"),
        ({"array": np.ones((1 << 20,), np.float32)}, "not float32"),
        ({"tag": 99}, "no frame 99"),
        ({"source": 1}, "rank 1"),
        ({"epoch": 5}, "epoch 5"),
        ({"kind": Kind.HELLO, "array": np.empty(0, np.uint8)}, "sent a HELLO"),
        ({"kind": Kind.FAILURE, "array": np.empty(0, np.uint8)}, "sent a FAILURE"),
    ],
)
def test_frames_that_are_not_due_end_the_connection_with_the_reason(
    committed: Any, address: str, linear: ef.Plan, transport: GrpcTransport, changes: Any, says: str
) -> None:
    client = Client()
    connection = transport.dial(address, hello(EPOCH, CLIENT), client, timeout_s=TIMEOUT_S)
    connection.send(question(linear, **changes))
    error = client.lost.get(timeout=TIMEOUT_S)
    assert isinstance(error, CodecError)
    with pytest.raises(CodecError, match=says):
        raise error


@given(messages=st.lists(st.binary(max_size=100), min_size=1, max_size=4))
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_noise_on_the_data_plane_is_refused(channel: grpc.Channel, messages: list[bytes]) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        list(_exchange(channel, messages))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT, caught.value


@given(noise=st.binary(min_size=1, max_size=100), cut=st.integers(0, 80))
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_noise_after_a_good_start_is_refused(
    stub: Any, channel: grpc.Channel, linear: ef.Plan, noise: bytes, cut: int
) -> None:
    """A peer that was let in sends a damaged frame: its connection ends, the worker lives on."""
    epoch = _next_epoch()
    call(stub.Prepare, prepare_request(linear, epoch=epoch))
    first = b"".join(encode_frame(hello(epoch, CLIENT).frame()))
    damaged = b"".join(encode_frame(question(linear, epoch=epoch)))[:cut] + noise
    with pytest.raises(grpc.RpcError) as caught:
        list(_exchange(channel, [first, damaged]))
    # A frame that is right by chance comes too early: the epoch is not committed.
    assert caught.value.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.ABORTED)
    call(stub.Abort, pb.AbortRequest(epoch=epoch))


_epochs = iter(range(1000, 1 << 30))


def _next_epoch() -> int:
    return next(_epochs)


def _exchange(channel: grpc.Channel, messages: list[bytes]) -> Any:
    exchange = channel.stream_stream(
        f"/{SERVICE}/{METHOD}", request_serializer=None, response_deserializer=None
    )
    return exchange(iter(messages), timeout=TIMEOUT_S)


# Starting one.


@pytest.mark.parametrize("bind", ["0.0.0.0:0", "[::]:0", "192.0.2.1:0", "example.com:0", ":0"])
def test_a_bind_that_others_can_reach_needs_a_word(bind: str) -> None:
    with pytest.raises(ConfigError, match="--insecure"):
        check_bind(bind, insecure=False)
    check_bind(bind, insecure=True)


@pytest.mark.parametrize("bind", ["127.0.0.1:0", "localhost:7000", "[::1]:0", "127.1.2.3:80"])
def test_loopback_is_fine(bind: str) -> None:
    check_bind(bind, insecure=False)


def test_a_port_that_is_taken(address: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"cannot listen at {address}"):
        WorkerServer(address, executor=make_executor("torch"), cache_dir=tmp_path / "other")


@pytest.mark.parametrize("options", [{"speed": 0.0}, {"speed": 1.5}, {"memory_limit_bytes": 0}])
def test_bad_settings(workers: Any, options: Any) -> None:
    with pytest.raises(ConfigError):
        workers.start(1, **options)
