"""The client's rank: requests on epochs, by their numbers on the wire; with fake links and a fake session."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from edgeflow.coordinator.client_rank import MAX_IN_FLIGHT, ClientRank
from edgeflow.errors import (
    CodecError,
    DeadlineExceededError,
    EdgeflowError,
    PeerLostError,
    WorkerFailedError,
    WorkerUnreachableError,
)
from edgeflow.graph.ir import Array
from edgeflow.net.rpc_errors import describe, encode_description
from edgeflow.net.wire import Frame, Kind
from edgeflow.plan.program import CLIENT, Buffer, Program, Receive, Send
from edgeflow.rank import rank as rank_module
from edgeflow.sharding.region import Region
from edgeflow.testing.virtual import VirtualThreads

X = Region.full((2,))
EPOCH = 3


def program() -> Program:
    """Send x to rank 0; receive y from rank 1."""
    return Program(
        rank=CLIENT,
        instructions=(
            Send(buffer=0, tensor="x", region=X, peer=0, tag=0, dtype="float32", stage="s"),
            Receive(buffer=1, tensor="y", region=X, peer=1, tag=1, dtype="float32", stage="s"),
        ),
        buffers=(Buffer("x", X, "float32"), Buffer("y", X, "float32")),
        inputs=(("x", 0),),
        outputs=(("y", 1),),
        weights=(),
        peak_bytes=16,
    )


class Session:
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def on_answered(self, epoch: int, request_id: int, outputs: dict[str, Array], seconds: float) -> None:
        self.told.append(("answered", epoch, request_id, outputs["y"].tolist(), seconds))

    def on_failed(self, epoch: int, request_id: int, error: Exception) -> None:
        self.told.append(("failed", epoch, request_id, error))

    def on_trouble(self, epoch: int, rank: int, error: EdgeflowError) -> None:
        self.told.append(("trouble", epoch, rank, error))


class Link:
    is_carrying = False

    def __init__(self) -> None:
        self.sent: list[Frame] = []
        self.is_closed = False

    def send(self, frame: Frame) -> None:
        if self.is_closed:
            raise WorkerUnreachableError("the connection has ended")
        self.sent.append(frame)

    def close(self) -> None:
        self.is_closed = True

    def numbers(self, kind: Kind) -> list[int]:
        return [frame.request_id for frame in self.sent if frame.kind is kind]


class World:
    def __init__(self) -> None:
        self.threads = VirtualThreads()
        self.session = Session()
        self.client = ClientRank(
            self.session, lock=self.threads.lock(), threads=self.threads, tick=lambda: None
        )
        self.links = {0: Link(), 1: Link()}
        self.client.open(EPOCH, program(), where=lambda rank: f"worker w{rank}")
        for rank, link in self.links.items():
            self.client.attach(EPOCH, rank, link)

    def begin(self, request_id: int, *, deadline_s: float = 100.0) -> None:
        self.client.begin(EPOCH, request_id, {"x": np.full(2, request_id, np.float32)}, deadline_s)
        self.threads.sleep(0.0)

    def answer(self, number: int) -> None:
        frame = Frame(
            kind=Kind.TENSOR,
            epoch=EPOCH,
            source=1,
            request_id=number,
            tag=1,
            array=np.full(2, 10 * number, np.float32),
        )
        self.client.handler(EPOCH, 1).on_frame(frame)
        self.threads.sleep(0.0)

    def fail(self, number: int, error: EdgeflowError, *, rank: int = 1) -> None:
        frame = Frame(
            kind=Kind.FAILURE,
            epoch=EPOCH,
            source=rank,
            request_id=number,
            array=np.frombuffer(encode_description(describe(error)), np.uint8),
        )
        self.client.handler(EPOCH, rank).on_frame(frame)
        self.threads.sleep(0.0)

    def told(self) -> list[tuple[Any, ...]]:
        told, self.session.told = self.session.told, []
        return told


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.client.close()


def test_a_request_is_sent_under_the_epochs_own_number_and_answered_under_its_id(world: World) -> None:
    """Numbers on the wire only grow, also when an older request begins again here."""
    world.begin(70)
    world.begin(20)
    assert world.links[0].numbers(Kind.TENSOR) == [1, 2]
    np.testing.assert_array_equal(world.links[0].sent[1].array, np.full(2, 20.0))
    world.threads.sleep(2.5)
    world.answer(2)
    world.answer(1)
    assert world.told() == [
        ("answered", EPOCH, 20, [20.0, 20.0], 2.5),
        ("answered", EPOCH, 70, [10.0, 10.0], 2.5),
    ]
    assert world.links[0].numbers(Kind.CANCEL) == []


def test_only_so_many_are_under_way_at_once(world: World) -> None:
    for request_id in range(1, MAX_IN_FLIGHT + 3):
        world.begin(request_id)
    assert world.links[0].numbers(Kind.TENSOR) == list(range(1, MAX_IN_FLIGHT + 1))
    world.answer(1)
    assert world.links[0].numbers(Kind.TENSOR) == list(range(1, MAX_IN_FLIGHT + 2))


def test_cancelling_tells_every_worker_and_not_the_session(world: World) -> None:
    world.begin(5)
    world.client.cancel(EPOCH, 5)
    world.client.cancel(EPOCH, 5)
    world.client.cancel(EPOCH, 99)
    for link in world.links.values():
        assert link.numbers(Kind.CANCEL) == [1]
    world.answer(1)  # too late
    assert world.told() == []


def test_a_worker_that_cannot_be_told_of_a_cancelled_request_is_passed_over(world: World) -> None:
    world.begin(5)
    world.links[0].close()
    world.client.cancel(EPOCH, 5)
    assert world.links[1].numbers(Kind.CANCEL) == [1]


def test_a_request_that_is_late_fails_with_what_it_waits_for(world: World) -> None:
    world.begin(5, deadline_s=3.0)
    world.begin(6, deadline_s=9.0)
    world.threads.sleep(3.0)
    world.client.tick()
    ((what, _, request_id, error),) = world.told()
    assert (what, request_id) == ("failed", 5)
    assert isinstance(error, DeadlineExceededError)
    assert "had no answer in 3.0 s; it waits for frame 1 from rank 1" in str(error)
    assert world.links[1].numbers(Kind.CANCEL) == [1]


def test_a_failure_that_a_worker_reports_fails_that_request(world: World) -> None:
    world.begin(5)
    world.begin(6)
    world.fail(1, WorkerFailedError("boom"))
    ((what, _, request_id, error),) = world.told()
    assert (what, request_id, str(error)) == ("failed", 5, "worker w1: boom")
    assert isinstance(error, WorkerFailedError)
    world.answer(2)
    assert [item[:3] for item in world.told()] == [("answered", EPOCH, 6)]


def test_a_worker_that_lost_another_is_trouble_for_the_epoch(world: World) -> None:
    world.begin(5)
    world.fail(1, PeerLostError("rank 1 lost rank 0", rank=1, peer=0, is_silent=True))
    (trouble, failure) = world.told()
    assert trouble[:3] == ("trouble", EPOCH, 1)
    assert isinstance(trouble[3], PeerLostError) and (trouble[3].rank, trouble[3].peer) == (1, 0)
    assert failure[:3] == ("failed", EPOCH, 5)


def test_trouble_comes_also_when_no_request_is_concerned(world: World) -> None:
    world.fail(0, PeerLostError("rank 1 lost rank 0", rank=1, peer=0))
    assert [item[0] for item in world.told()] == ["trouble"]


def test_a_lost_worker_is_trouble_first_then_fails_what_is_left_and_what_comes(world: World) -> None:
    world.begin(5)
    world.client.handler(EPOCH, 0).on_lost(WorkerUnreachableError("reset"))
    trouble, failure = world.told()
    assert trouble[:3] == ("trouble", EPOCH, 0)
    assert str(trouble[3]) == "worker w0 was lost: reset"
    assert failure[:3] == ("failed", EPOCH, 5)
    world.begin(6)
    ((what, _, request_id, _),) = world.told()
    assert (what, request_id) == ("failed", 6)


def test_a_worker_that_sends_what_it_should_not_is_up_and_apart(world: World) -> None:
    world.client.handler(EPOCH, 1).on_lost(CodecError("bad checksum"))
    ((what, _, rank, error),) = world.told()
    assert (what, rank) == ("trouble", 1)
    assert isinstance(error, PeerLostError)
    assert (error.rank, error.peer, error.is_broken) == (CLIENT, 1, True)


def test_of_an_epoch_that_is_retired_nothing_is_heard(world: World) -> None:
    world.begin(5)
    world.client.retire(EPOCH)
    world.client.retire(EPOCH)
    assert world.links[0].numbers(Kind.CANCEL) == [1]
    world.fail(1, PeerLostError("rank 1 lost rank 0", rank=1, peer=0))
    world.client.handler(EPOCH, 0).on_lost(None)
    assert world.told() == []
    world.client.free(EPOCH)
    world.client.free(EPOCH)
    assert all(link.is_closed for link in world.links.values())
    world.fail(1, PeerLostError("rank 1 lost rank 0", rank=1, peer=0))
    assert world.told() == [] and world.client.records(EPOCH) == []


def test_a_connection_that_comes_after_its_epoch_is_closed(world: World) -> None:
    world.client.free(EPOCH)
    late = Link()
    world.client.attach(EPOCH, 0, late)
    assert late.is_closed


def test_whether_frames_are_on_their_way(world: World) -> None:
    assert not world.client.is_carrying(EPOCH, 0)
    world.links[0].is_carrying = True
    assert world.client.is_carrying(EPOCH, 0)
    assert not world.client.is_carrying(EPOCH, 7) and not world.client.is_carrying(9, 0)


def test_records_name_the_request_and_its_number(world: World) -> None:
    world.begin(70)
    world.answer(1)
    ((number, request_id, records),) = world.client.records(EPOCH)
    assert (number, request_id) == (1, 70)
    assert [record.position for record in records] == [0, 1]


def test_records_can_be_asked_for_after_many_requests_that_failed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ids are remembered of the latest requests only, records of the latest that came to their end."""
    monkeypatch.setattr("edgeflow.coordinator.client_rank.MAX_RECORDS", 3)
    monkeypatch.setattr(rank_module, "MAX_RECORDS", 3)
    world.begin(70)
    world.answer(1)
    for request_id in range(100, 100 + 3 + MAX_IN_FLIGHT + 1):
        world.begin(request_id)
        world.client.cancel(EPOCH, request_id)
        world.threads.sleep(0.0)
    assert world.client.records(EPOCH) == []
    world.begin(71)
    world.answer(3 + MAX_IN_FLIGHT + 3)
    assert [request_id for _, request_id, _ in world.client.records(EPOCH)] == [71]


def test_a_clients_program_that_computes_is_a_defect(world: World) -> None:
    with pytest.raises(AssertionError, match="does not know"):
        world.client.carry_out("something else")
