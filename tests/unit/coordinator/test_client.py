"""The control plane over gRPC: what it sends, what it makes of answers and failures; with a fake stub."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest

from edgeflow._proto.edgeflow.v1 import worker_pb2 as pb
from edgeflow.coordinator import client as module
from edgeflow.coordinator.client import WorkerClient
from edgeflow.errors import StalePlanError, WorkerFailedError, WorkerUnreachableError
from edgeflow.net.content import content_of
from edgeflow.net.rpc_errors import CLASS_KEY
from edgeflow.net.wire import CHUNK_BYTES, PROTOCOL_VERSION


class Failed(grpc.RpcError):
    def __init__(self, code: grpc.StatusCode, details: str = "", name: str = "") -> None:
        self._code, self._details = code, details
        self._metadata = ((CLASS_KEY, name),) if name else ()

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._details

    def trailing_metadata(self) -> Any:
        return self._metadata


class Call:
    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.is_cancelled = False

    def result(self) -> Any:
        answer = self.answer() if callable(self.answer) else self.answer
        if self.is_cancelled:
            raise grpc.FutureCancelledError
        if isinstance(answer, Exception):
            raise answer
        return answer

    def cancel(self) -> None:
        self.is_cancelled = True


class Stub:
    """Answers each method with what it is told to."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.calls: list[tuple[str, Any, dict[str, Any]]] = []

    def __getattr__(self, method: str) -> Any:
        stub = self

        class Method:
            def future(self, request: Any, **options: Any) -> Call:
                if isinstance(request, Iterator):
                    request = list(request)
                stub.calls.append((method, request, options))
                return Call(stub.answers.get(method))

        return Method()


class Channel:
    is_closed = False

    def close(self) -> None:
        self.is_closed = True


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Any:
    def make(**answers: Any) -> tuple[WorkerClient, Stub]:
        stub = Stub(**answers)
        monkeypatch.setattr(module, "open_channel", lambda *args: Channel())
        monkeypatch.setattr(module.worker_pb2_grpc, "WorkerStub", lambda channel: stub)
        return WorkerClient("pi4:7070", 2), stub

    return make


def description(**fields: Any) -> pb.DescribeResponse:
    values: dict[str, Any] = {"name": "pi4", "protocol_version": PROTOCOL_VERSION, "executors": ["torch"]}
    return pb.DescribeResponse(**{**values, **fields})


def test_the_clocks_offset_is_that_of_the_shortest_round_trip(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = [100.0]
    trips_s = iter([5.0, 0.4, 0.2, 0.6, 0.4, 0.8])

    def answer() -> pb.DescribeResponse:
        now_s[0] += next(trips_s)
        # Their clock is 1000 ahead, and was looked at when the answer set out; it came back at once.
        return description(monotonic_s=1000.0 + now_s[0], data_ports={"tcp": 7001})

    class Clock:
        @staticmethod
        def monotonic() -> float:
            return now_s[0]

    monkeypatch.setattr(module, "time", Clock)
    client, stub = make(Describe=answer)
    said = client.describe(timeout_s=3.0)
    assert said.round_trip_s == pytest.approx(0.2)
    assert said.clock_offset_s == pytest.approx(1000.0 + 0.1)  # wrong by half of the round trip at most
    assert (said.name, said.executor, said.data_ports) == ("pi4", "torch", {"tcp": 7001})
    waits = [options["wait_for_ready"] for _, _, options in stub.calls]
    assert waits == [True, False, False, False, False, False]


def test_another_version_of_the_frame_format_is_refused(make: Any) -> None:
    client, _ = make(Describe=description(protocol_version=PROTOCOL_VERSION + 1, version="9.9"))
    with pytest.raises(
        WorkerFailedError, match=r"worker pi4:7070 \(rank 2\) \(edgeflow 9\.9\) speaks version"
    ):
        client.describe(timeout_s=1.0)


def test_a_worker_that_does_not_come_up_is_named_with_the_time(make: Any) -> None:
    client, _ = make(Describe=Failed(grpc.StatusCode.DEADLINE_EXCEEDED))
    with pytest.raises(WorkerUnreachableError, match=r"\(rank 2\) cannot be reached: no answer in 3\.0 s"):
        client.describe(timeout_s=3.0)


def test_an_error_comes_back_as_the_class_that_it_was(make: Any) -> None:
    client, _ = make(Commit=Failed(grpc.StatusCode.ABORTED, "epoch 5 is not held here", "StalePlanError"))
    with pytest.raises(StalePlanError, match=r"pi4:7070 .*epoch 5 is not held here"):
        client.commit(5, timeout_s=1.0)


def test_weights_go_out_in_chunks_after_the_epoch(make: Any) -> None:
    client, stub = make()
    large = np.arange(CHUNK_BYTES // 4 + 10, dtype=np.float32)
    empty = np.empty((0,), np.float32)
    slices = [(content_of(array, dtype="float32"), array) for array in (large, empty)]
    client.load(5, iter(slices), timeout_s=1.0)
    ((_, messages, options),) = stub.calls
    assert options["timeout"] == 1.0
    first, *chunks = messages
    assert (first.epoch, first.data) == (5, b"")
    assert [(chunk.offset_bytes, len(chunk.data)) for chunk in chunks] == [
        (0, CHUNK_BYTES),
        (CHUNK_BYTES, 40),
        (0, 0),
    ]
    assert b"".join(chunk.data for chunk in chunks) == large.tobytes()
    assert [chunk.content_hash for chunk in chunks] == [slices[0][0].content_hash] * 2 + [
        slices[1][0].content_hash
    ]


def test_a_report_is_read_by_request(make: Any) -> None:
    item = pb.InstructionRecord(index=3, start_s=1.0, stop_s=2.0)
    answer = pb.ReportResponse(
        requests=[pb.RequestRecord(request_id=9, instructions=[item])], peak_memory_bytes=77
    )
    client, stub = make(Report=answer)
    report = client.report(5, min_request_id=8, timeout_s=1.0)
    assert (report.requests, report.peak_memory_bytes) == ({9: [(3, 1.0, 2.0)]}, 77)
    assert (stub.calls[0][1].epoch, stub.calls[0][1].min_request_id) == (5, 8)


def test_a_ping_renews_the_leases_of_epochs(make: Any) -> None:
    client, stub = make(Ping=pb.PingResponse(instance="i", num_active_requests=4))
    assert client.ping([5, 6], timeout_s=1.0) == ("i", 4)
    assert list(stub.calls[0][1].epochs) == [5, 6]


def test_a_client_that_is_given_up_ends_its_call_and_only_undoes_from_then_on(make: Any) -> None:
    def give_up() -> pb.PingResponse:
        client.cancel()
        return pb.PingResponse()

    client, stub = make(Ping=give_up)
    with pytest.raises(WorkerUnreachableError, match="the call was given up"):
        client.ping([], timeout_s=1.0)
    with pytest.raises(WorkerUnreachableError, match="the call was given up"):
        client.commit(5, timeout_s=1.0)
    client.abort(5, timeout_s=1.0)
    client.release(5, timeout_s=1.0)
    assert [method for method, _, _ in stub.calls] == ["Ping", "Abort", "Release"]
