"""The shell of a rank: from frames to sends, and what it holds meanwhile; with a fake owner and links."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import pytest

from edgeflow.errors import (
    CodecError,
    EdgeflowError,
    StalePlanError,
    WorkerUnreachableError,
)
from edgeflow.graph.ir import Array
from edgeflow.net.wire import Decoder, Frame, Header, Kind, encode
from edgeflow.plan.program import CLIENT, Program
from edgeflow.rank import events as r
from edgeflow.rank import rank as rank_module
from edgeflow.rank.interpreter import receives_of
from edgeflow.rank.rank import Rank
from edgeflow.rank.state import RankState
from edgeflow.testing.virtual import VirtualThreads


class Owner:
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.finished: dict[tuple[int, int], dict[str, Array]] = {}
        self.failed: dict[tuple[int, int], Exception] = {}
        self.dropped: list[tuple[int, int]] = []
        self.carried_out: list[object] = []
        self.notices: list[tuple[int, int, Frame]] = []
        self.lost: list[tuple[int, int, EdgeflowError | None]] = []

    def on_finished(self, epoch: int, request_id: int, outputs: dict[str, Array]) -> None:
        self.finished[epoch, request_id] = outputs

    def on_failed(self, epoch: int, request_id: int, error: Exception) -> None:
        self.failed[epoch, request_id] = error

    def on_dropped(self, epoch: int, request_id: int) -> None:
        self.dropped.append((epoch, request_id))

    def carry_out(self, instruction: object) -> None:
        self.carried_out.append(instruction)

    def admits(self, kind: Kind, peer: int) -> bool:
        return kind is Kind.CANCEL and peer == CLIENT

    def on_notice(self, epoch: int, peer: int, frame: Frame) -> None:
        self.notices.append((epoch, peer, frame))

    def on_lost(self, epoch: int, peer: int, error: EdgeflowError | None) -> None:
        self.lost.append((epoch, peer, error))


class Link:
    """A connection that keeps what is sent."""

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


class Doubling:
    """A back end whose only kernel makes y = [x0 + x1, x2, x3] twice."""

    def compute(self, instruction_index: int, buffers: dict[int, Array]) -> None:
        buffers[1] = 2 * buffers[0][:, :3]


class World:
    """Rank 0 of `program`, in epoch 4, with links to the client and to rank 1."""

    def __init__(self, program: Program) -> None:
        self.threads = VirtualThreads()
        self.owner = Owner()
        self.state = RankState()
        self.rank = Rank(self.state, self.owner, lock=self.threads.lock(), name="runs", threads=self.threads)
        self.links = {CLIENT: Link(), 1: Link()}
        self.rank.open(4, program)
        self.rank.load(4, Doubling())
        self.rank.handle(r.EpochOpened(epoch=4, receives=frozenset(receives_of(program)), max_active=2))
        for peer, link in self.links.items():
            self.rank.attach(4, peer, link)

    def deliver(self, peer: int, request_id: int, tag: int, array: Array, *, epoch: int = 4) -> None:
        """Bring a frame as a transport does: by its header, then whole."""
        handler = self.rank.handler(epoch, peer)
        frame = Frame(kind=Kind.TENSOR, epoch=epoch, source=peer, request_id=request_id, tag=tag, array=array)
        decoder = Decoder(max_payload_bytes=1 << 20, admit=handler.admit)
        arrived = [found for message in encode(frame) if (found := decoder.feed(message)) is not None]
        (found,) = arrived
        handler.on_frame(found)
        self.threads.sleep(0.0)

    @property
    def held(self) -> Any:
        return self.rank._epochs[4]


X, Y = np.arange(8, dtype=np.float32).reshape(2, 4), np.ones((2, 3), np.float32)


@pytest.fixture
def world(program: Program) -> Iterator[World]:
    made = World(program)
    yield made
    made.rank.close()


def answer(world: World, request_id: int) -> None:
    world.deliver(CLIENT, request_id, 0, X)
    world.deliver(1, request_id, 2, Y)


def test_a_request_from_its_frames_to_its_sends(world: World) -> None:
    world.deliver(CLIENT, 7, 0, X)
    (partial,) = world.links[1].sent
    assert (partial.kind, partial.epoch, partial.source, partial.request_id, partial.tag) == (
        Kind.TENSOR,
        4,
        0,
        7,
        1,
    )
    np.testing.assert_array_equal(partial.array, 2 * X[:, :3])
    assert world.links[CLIENT].sent == [] and world.owner.dropped == []

    world.deliver(1, 7, 2, Y)
    (summed,) = world.links[CLIENT].sent
    assert (summed.request_id, summed.tag) == (7, 3)
    np.testing.assert_array_equal(summed.array, 2 * X[:, :3] + Y)
    assert list(world.owner.finished) == [(4, 7)]
    assert world.owner.dropped == [(4, 7)]
    assert not world.owner.failed


def test_frames_may_come_in_any_order_and_requests_at_once(world: World) -> None:
    for request_id in (2, 1):
        world.deliver(1, request_id, 2, request_id * Y)
    for request_id in (1, 2):
        world.deliver(CLIENT, request_id, 0, request_id * X)
    sums = {frame.request_id: frame.array for frame in world.links[CLIENT].sent}
    for request_id in (1, 2):
        np.testing.assert_array_equal(sums[request_id], request_id * (2 * X[:, :3] + Y))


def test_nothing_is_held_for_a_request_that_has_ended(world: World) -> None:
    answer(world, 1)
    world.deliver(1, 2, 2, Y)
    world.deliver(CLIENT, 3, 0, X)
    assert set(world.held.frames) >= {2}
    world.rank.handle(r.RequestAbandoned(4, 2))
    world.rank.handle(r.RequestAbandoned(4, 3))
    world.threads.sleep(0.0)
    assert {key: frames for key, frames in world.held.frames.items() if frames} == {}
    assert 2 not in world.held.frames and 3 not in world.held.frames and 1 not in world.held.frames
    assert world.held.inputs == {} and world.held.outputs == {}
    assert world.owner.dropped == [(4, 1), (4, 2), (4, 3)]
    assert world.rank._runner._running == {}
    assert list(world.owner.finished) == [(4, 1)] and not world.owner.failed


def test_a_kernel_that_raises_fails_its_request_only(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Doubling, "compute", lambda self, index, buffers: 1 / 0)
    world.deliver(CLIENT, 1, 0, X)
    assert isinstance(world.owner.failed[4, 1], ZeroDivisionError)
    assert [record.message for record in caplog.records] == ["request.failed"]
    monkeypatch.undo()
    answer(world, 2)
    assert list(world.owner.finished) == [(4, 2)]


def test_a_lost_link_fails_the_requests_that_need_it(world: World) -> None:
    world.links[1].close()
    world.deliver(CLIENT, 1, 0, X)
    assert isinstance(world.owner.failed[4, 1], WorkerUnreachableError)
    assert world.owner.dropped == [(4, 1)]


def test_a_send_to_a_rank_that_never_connected_is_named(program: Program) -> None:
    world = World(program)
    del world.held.connections[1]
    world.deliver(CLIENT, 1, 0, X)
    assert str(world.owner.failed[4, 1]) == "no connection with rank 1"
    world.rank.close()


# What is admitted.


def header(**fields: Any) -> Header:
    frame = Frame(
        kind=Kind.TENSOR, epoch=4, source=CLIENT, request_id=1, tag=0, array=np.zeros((2, 4), np.float32)
    )
    seen: list[Header] = []
    decoder = Decoder(max_payload_bytes=1 << 20, admit=seen.append)
    for message in encode(frame):
        decoder.feed(message)
    return msgspec.structs.replace(seen[0], **fields)


def test_what_the_program_receives_is_admitted(world: World) -> None:
    world.rank.admit(4, CLIENT, header())
    world.rank.admit(4, 1, header(source=1, tag=2, shape=(2, 3)))
    world.rank.admit(4, CLIENT, header(kind=Kind.CANCEL))


REFUSED: dict[str, tuple[int, int, dict[str, Any], type[EdgeflowError], str]] = {
    "of another rank": (4, 1, {}, CodecError, "rank 1 of epoch 4 sent a frame of rank -1 of epoch 4"),
    "of another epoch": (4, CLIENT, {"epoch": 5}, CodecError, "sent a frame of rank -1 of epoch 5"),
    "of an epoch that is gone": (5, CLIENT, {"epoch": 5}, StalePlanError, "epoch 5 is not held here"),
    "a tag that is not due": (4, CLIENT, {"tag": 2}, CodecError, "no frame 2 from rank -1 is due"),
    "a tag of another peer": (4, 1, {"source": 1}, CodecError, "no frame 0 from rank 1 is due"),
    "another shape": (4, CLIENT, {"shape": (2, 5)}, CodecError, "2, 5"),
    "another type": (4, CLIENT, {"dtype": "float64"}, CodecError, "float64"),
    "a notice that is not due": (4, 1, {"source": 1, "kind": Kind.CANCEL}, CodecError, "sent a CANCEL"),
    "a failure from the client": (4, CLIENT, {"kind": Kind.FAILURE}, CodecError, "sent a FAILURE"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_refused_before_its_payload_is_allocated(what: str, world: World) -> None:
    epoch, peer, fields, error, message = REFUSED[what]
    with pytest.raises(error, match=message):
        world.rank.admit(epoch, peer, header(**fields))


def test_a_notice_goes_to_the_owner(world: World) -> None:
    frame = Frame(kind=Kind.CANCEL, epoch=4, source=CLIENT, request_id=3)
    world.rank.handler(4, CLIENT).on_frame(frame)
    assert world.owner.notices == [(4, CLIENT, frame)]
    assert len(world.state.journal.calls) == 1  # the machine has heard of the epoch only


def test_the_end_of_a_connection_goes_to_the_owner(world: World) -> None:
    error = WorkerUnreachableError("reset")
    world.rank.handler(4, 1).on_lost(error)
    world.rank.handler(4, CLIENT).on_lost(None)
    assert world.owner.lost == [(4, 1, error), (4, CLIENT, None)]


# Records.


def test_records_say_when_each_instruction_ran(world: World, program: Program) -> None:
    world.deliver(CLIENT, 1, 0, X)
    world.threads.sleep(2.0)
    world.deliver(1, 1, 2, Y)
    ((request_id, records),), num_dropped = world.rank.records(4)
    assert (request_id, num_dropped) == (1, 0)
    positions = [record.position for record in records]
    assert positions == sorted(positions) and set(positions) <= set(range(len(program.instructions)))
    assert all(record.start_s <= record.stop_s for record in records)
    sends = {record.position: record for record in records if record.position in (3, 7)}
    assert (sends[3].stop_s, sends[7].start_s) == (0.0, 2.0)


def test_records_of_requests_that_failed_are_not_kept(world: World) -> None:
    world.links[1].close()
    world.deliver(CLIENT, 1, 0, X)
    assert world.rank.records(4) == ([], 0)


def test_records_are_bounded_and_those_dropped_are_counted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rank_module, "MAX_RECORDS", 3)
    for request_id in range(1, 6):
        answer(world, request_id)
    records, num_dropped = world.rank.records(4)
    assert [request_id for request_id, _ in records] == [3, 4, 5]
    assert num_dropped == 2


# Epochs.


def test_an_epoch_that_is_freed_closes_its_connections(world: World) -> None:
    assert world.rank.connection(4, 1) is world.links[1]
    assert set(world.rank.connections(4)) == set(world.links.values())
    world.rank.free(4)
    assert all(link.is_closed for link in world.links.values())
    assert world.rank.connection(4, 1) is None and world.rank.connections(4) == ()


def test_a_request_that_is_not_taken_leaves_nothing_behind(world: World) -> None:
    with pytest.raises(StalePlanError, match="epoch 9 is not open"):
        world.rank.submit(9, 1, {"x": X})
    world.rank.handle(r.EpochDrains(4, StalePlanError("going")))
    with pytest.raises(StalePlanError, match="going"):
        world.rank.submit(4, 1, {"x": X})
    assert world.held.inputs == {}


def test_an_instruction_that_is_no_ranks_goes_to_the_owner(world: World) -> None:
    world.rank._machine = Fixed(["something else"])
    world.rank.handle("an event")
    assert world.owner.carried_out == ["something else"]


class Fixed:
    def __init__(self, instructions: list[object]) -> None:
        self._instructions = instructions

    def handle(self, event: object) -> list[object]:
        return self._instructions
