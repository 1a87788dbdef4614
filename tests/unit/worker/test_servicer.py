"""The servicer: messages in, messages out, errors as a status; with a fake context and no channel."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import grpc
import pytest

from edgeflow._proto.edgeflow.v1 import worker_pb2 as pb
from edgeflow.net.wire import CHUNK_BYTES, PROTOCOL_VERSION
from edgeflow.plan.program import Program, encode
from edgeflow.worker.servicer import WorkerServicer
from tests.unit.worker.by_hand import EPOCH, KEY, ByHand, W


class Aborted(Exception):
    pass


class Context:
    """What gRPC gives a servicer."""

    def __init__(self, remaining_s: float | None = None) -> None:
        self.remaining_s = remaining_s
        self.code: grpc.StatusCode | None = None
        self.details = ""
        self.trailing: Any = ()

    def time_remaining(self) -> float | None:
        return self.remaining_s

    def set_trailing_metadata(self, metadata: Any) -> None:
        self.trailing = metadata

    def abort(self, code: grpc.StatusCode, details: str) -> None:
        self.code, self.details = code, details
        raise Aborted

    def abort_with_status(self, status: Any) -> None:
        self.abort(status.code, status.details)


class World:
    def __init__(self, program: Program, folder: Path) -> None:
        self.hand = ByHand(program, folder)
        self.servicer = WorkerServicer(
            self.hand.worker, name="pi4", version="1.2", num_threads=3, data_ports={"tcp": 7001}
        )

    def call(self, method: str, request: Any, context: Context | None = None) -> Any:
        return getattr(self.servicer, method)(request, cast(Any, context or Context()))

    def refused(self, method: str, request: Any) -> Context:
        context = Context()
        with pytest.raises(Aborted):
            self.call(method, request, context)
        return context

    def preparation(self, **fields: Any) -> pb.PrepareRequest:
        content = self.hand.content
        values: dict[str, Any] = {
            "epoch": EPOCH,
            "plan_fingerprint": "f",
            "rank": 0,
            "program_json": encode(self.hand.program),
            "peers": {0: self.hand.worker_listener.address, 1: self.hand.peer_listener.address},
            "weights": [
                pb.WeightContent(content_hash=content.content_hash, dtype=content.dtype, shape=content.shape)
            ],
            "epoch_key": KEY,
            **fields,
        }
        return pb.PrepareRequest(**values)

    def weights(self) -> Iterator[pb.LoadWeightsRequest]:
        yield pb.LoadWeightsRequest(epoch=EPOCH)
        for chunk in self.hand.chunks():
            yield pb.LoadWeightsRequest(
                epoch=EPOCH, content_hash=chunk.content_hash, offset_bytes=chunk.offset, data=chunk.data
            )


@pytest.fixture
def world(program: Program, tmp_path: Path) -> Iterator[World]:
    made = World(program, tmp_path)
    yield made
    made.hand.close()


def test_describe_says_what_the_worker_is_and_holds(world: World) -> None:
    world.call("Prepare", world.preparation())
    said = world.call("Describe", pb.DescribeRequest())
    assert (said.name, said.version, said.num_threads, dict(said.data_ports)) == (
        "pi4",
        "1.2",
        3,
        {"tcp": 7001},
    )
    assert said.protocol_version == PROTOCOL_VERSION
    assert said.executors[0] == "linear"  # the one that it uses, then what else is installed
    assert list(said.operators) == sorted(said.operators) and "linear" in said.operators
    (epoch,) = said.epochs
    assert (epoch.epoch, epoch.phase, epoch.rank, epoch.num_active_requests) == (
        EPOCH,
        pb.EPOCH_PHASE_PREPARED,
        0,
        0,
    )
    assert epoch.reserved_bytes > 0


def test_an_epoch_goes_through_its_phases(world: World) -> None:
    def phases() -> list[int]:
        return [item.phase for item in world.call("Describe", pb.DescribeRequest()).epochs]

    assert list(world.call("Prepare", world.preparation()).missing) == [world.hand.content.content_hash]
    assert world.call("LoadWeights", world.weights()).received_bytes == W.nbytes
    assert phases() == [pb.EPOCH_PHASE_READY]
    world.call("Commit", pb.CommitRequest(epoch=EPOCH))
    assert phases() == [pb.EPOCH_PHASE_COMMITTED]
    world.hand.dial()
    world.hand.send(world.hand.client, 1)
    assert world.call("Ping", pb.PingRequest(epochs=[EPOCH])).num_active_requests == 1
    world.call("Release", pb.ReleaseRequest(epoch=EPOCH))
    assert phases() == [pb.EPOCH_PHASE_DRAINING]
    world.hand.send(world.hand.peer, 1)
    assert phases() == []


def test_the_report_has_the_records_from_a_request_on(world: World) -> None:
    world.hand.open()
    for request_id in (1, 2):
        world.hand.send(world.hand.client, request_id)
        world.hand.send(world.hand.peer, request_id)
    report = world.call("Report", pb.ReportRequest(epoch=EPOCH, min_request_id=2))
    (record,) = report.requests
    assert record.request_id == 2
    assert all(item.start_s <= item.stop_s for item in record.instructions)
    assert report.peak_memory_bytes > 1 << 20 and report.num_dropped == 0


def test_a_ping_says_which_process_answers(world: World) -> None:
    first, second = (world.call("Ping", pb.PingRequest()) for _ in range(2))
    assert first.instance == second.instance == world.hand.worker.instance != ""


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        ("Commit", pb.CommitRequest(epoch=5)),
        ("Report", pb.ReportRequest(epoch=5)),
        ("LoadWeights", iter([pb.LoadWeightsRequest(epoch=5)])),
    ],
)
def test_an_epoch_that_is_not_held_is_aborted(world: World, method: str, request_: Any) -> None:
    context = world.refused(method, request_)
    assert context.code is grpc.StatusCode.ABORTED
    assert context.details == "epoch 5 is not held here"


def test_aborting_or_releasing_what_is_not_held_is_no_error(world: World) -> None:
    world.call("Abort", pb.AbortRequest(epoch=5))
    world.call("Release", pb.ReleaseRequest(epoch=5))


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"program_json": b"{"}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"epoch_key": b"short"}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"weights": []}, grpc.StatusCode.INVALID_ARGUMENT),
    ],
)
def test_bad_preparations_are_the_callers_fault(world: World, fields: Any, code: grpc.StatusCode) -> None:
    assert world.refused("Prepare", world.preparation(**fields)).code is code
    assert list(world.call("Describe", pb.DescribeRequest()).epochs) == []


def test_weights_begin_with_the_epoch_and_their_chunks_are_bounded(world: World) -> None:
    world.call("Prepare", world.preparation())
    assert "the first message, with the epoch, is missing" in world.refused("LoadWeights", iter([])).details
    too_long = pb.LoadWeightsRequest(
        epoch=EPOCH, content_hash=world.hand.content.content_hash, data=bytes(CHUNK_BYTES + 1)
    )
    assert (
        "a chunk of 1,048,577 bytes, at most 1,048,576"
        in world.refused("LoadWeights", iter([pb.LoadWeightsRequest(epoch=EPOCH), too_long])).details
    )


@pytest.mark.parametrize(
    ("remaining_s", "expected_s"), [(None, 60.0), (10.0, 9.5), (0.2, 0.1), (1000.0, 60.0)]
)
def test_dialling_stops_before_the_caller_gives_up(
    world: World, monkeypatch: pytest.MonkeyPatch, remaining_s: float | None, expected_s: float
) -> None:
    found: list[float] = []
    monkeypatch.setattr(
        type(world.hand.worker), "commit", lambda self, epoch, *, timeout_s: found.append(timeout_s)
    )
    world.call("Commit", pb.CommitRequest(epoch=EPOCH), Context(remaining_s))
    assert found == [pytest.approx(expected_s)]


def test_what_is_not_ours_is_told_by_a_neutral_sentence(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(self: Any, epochs: Any) -> int:
        raise ValueError("/secret/path")

    monkeypatch.setattr(type(world.hand.worker), "ping", fail)
    context = world.refused("Ping", pb.PingRequest())
    assert context.code is grpc.StatusCode.INTERNAL
    assert "secret" not in context.details and "secret" not in str(context.trailing)
