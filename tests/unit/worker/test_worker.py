"""The worker's outer ring: how programs come and go, and what peers and the client hear of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeflow.errors import (
    AccessDeniedError,
    CodecError,
    ConfigError,
    EdgeflowError,
    PeerLostError,
    StalePlanError,
    WorkerFailedError,
    WorkerOutOfMemoryError,
    WorkerOverloadedError,
)
from edgeflow.net.content import Content, content_of
from edgeflow.net.rpc_errors import decode_description, rebuild
from edgeflow.net.wire import Frame, Kind
from edgeflow.plan.program import CLIENT, Program
from edgeflow.worker.state import LEASE_S, UNATTENDED_S, Phase
from edgeflow.worker.worker import NO_REQUEST, Chunk
from tests.unit.worker.by_hand import EPOCH, KEY, ByHand, W, X, Y

ANSWER = np.maximum(X @ W.T + 1, 0)


@pytest.fixture
def hand(program: Program, tmp_path: Path) -> Iterator[ByHand]:
    made = ByHand(program, tmp_path)
    yield made
    made.close()


def failure(frame: Frame) -> EdgeflowError:
    assert frame.kind is Kind.FAILURE
    return rebuild(decode_description(frame.array.tobytes()), where="w")


# The life of an epoch.


def test_a_program_comes_answers_and_goes(hand: ByHand) -> None:
    assert hand.worker.prepare(hand.preparation()) == (hand.content.content_hash,)
    assert [status.phase for status in hand.worker.status()] == [Phase.PREPARED]
    assert hand.worker.load(EPOCH, hand.chunks()) == W.nbytes
    assert [status.phase for status in hand.worker.status()] == [Phase.READY]
    hand.worker.commit(EPOCH, timeout_s=5.0)
    assert hand.peer.hello is not None and (hand.peer.hello.epoch, hand.peer.hello.rank) == (EPOCH, 0)
    hand.dial()
    hand.send(hand.client, 1)
    np.testing.assert_array_equal(hand.peer.frames[0].array, ANSWER)
    hand.send(hand.peer, 1)
    np.testing.assert_array_equal(hand.client.frames[0].array, ANSWER + Y)

    hand.worker.release(EPOCH)
    assert hand.worker.status() == ()
    hand.threads.sleep(0.1)
    assert (hand.client.lost, hand.peer.lost) == ([None], [None])


def test_weights_that_are_there_are_not_asked_for_again(hand: ByHand) -> None:
    hand.open()
    assert hand.worker.prepare(hand.preparation(EPOCH + 1)) == ()
    assert hand.worker.load(EPOCH + 1, ()) == 0


@pytest.mark.parametrize("size", [1, 7, 48, 1000])
def test_weights_come_in_chunks_of_any_size(hand: ByHand, size: int) -> None:
    hand.worker.prepare(hand.preparation())
    assert hand.worker.load(EPOCH, hand.chunks(size=size)) == W.nbytes


def _other() -> Content:
    return content_of(W + 1, dtype="float32")


BAD_CHUNKS: dict[str, Any] = {
    "nobody asked for them": lambda hand: hand.chunks(_other()),
    "one is missing": lambda hand: list(hand.chunks())[:-1],
    "one comes twice": lambda hand: [*hand.chunks(), list(hand.chunks())[-1]],
    "they are out of order": lambda hand: list(hand.chunks())[::-1],
    "one is changed": lambda hand: [
        item._replace(data=b"\x01" * len(item.data)) if item.offset == 20 else item for item in hand.chunks()
    ],
    "there is too much": lambda hand: [*hand.chunks(), Chunk(hand.content.content_hash, W.nbytes, b"more")],
}


@pytest.mark.parametrize("what", BAD_CHUNKS)
def test_bad_weights_are_refused_and_good_ones_may_follow(hand: ByHand, what: str) -> None:
    hand.worker.prepare(hand.preparation())
    with pytest.raises(CodecError):
        hand.worker.load(EPOCH, BAD_CHUNKS[what](hand))
    assert [status.phase for status in hand.worker.status()] == [Phase.PREPARED]
    hand.worker.load(EPOCH, hand.chunks())


def test_weights_that_never_come_leave_the_epoch_prepared(hand: ByHand) -> None:
    hand.worker.prepare(hand.preparation())
    with pytest.raises(EdgeflowError):
        hand.worker.load(EPOCH, ())
    assert [status.phase for status in hand.worker.status()] == [Phase.PREPARED]


BAD_PREPARATIONS: dict[str, tuple[dict[str, Any], type[EdgeflowError], str]] = {
    "no contents": ({"contents": ()}, ConfigError, "1 weight slices, but the contents of 0"),
    "contents of another shape": (
        {"contents": (content_of(W.T.copy(), dtype="float32"),)},
        ConfigError,
        r"weight 'w': float32\[3, 4\] in the program, float32\[4, 3\] beside it",
    ),
    "a name that is no hash": ({"contents": (Content("../x", "float32", (3, 4)),)}, CodecError, ""),
    "a short key": ({"key": b"short"}, ConfigError, "16 to 64 bytes, got 5"),
    "another rank": ({"rank": 1}, EdgeflowError, "rank"),
    "an unknown peer": ({"peers": {0: "memory:1"}}, EdgeflowError, "1"),
}


@pytest.mark.parametrize("what", BAD_PREPARATIONS)
def test_bad_preparations_are_refused_and_leave_nothing(hand: ByHand, what: str) -> None:
    fields, error, message = BAD_PREPARATIONS[what]
    with pytest.raises(error, match=message or None):
        hand.worker.prepare(hand.preparation(**fields))
    assert hand.worker.status() == ()


def test_a_program_that_does_not_fit_beside_the_others_is_refused(program: Program, tmp_path: Path) -> None:
    hand = ByHand(program, tmp_path, memory_limit_bytes=200)
    hand.worker.prepare(hand.preparation(1))
    with pytest.raises(WorkerOverloadedError, match="epoch 2 needs"):
        hand.worker.prepare(hand.preparation(2))
    hand.worker.abort(1)
    hand.worker.prepare(hand.preparation(2))
    hand.close()


def test_an_epoch_that_is_not_held_is_stale(hand: ByHand) -> None:
    calls: list[Any] = [
        lambda: hand.worker.load(EPOCH, ()),
        lambda: hand.worker.commit(EPOCH, timeout_s=1.0),
        lambda: hand.worker.report(EPOCH),
        lambda: hand.dial(),
    ]
    for call in calls:
        with pytest.raises(StalePlanError, match=f"epoch {EPOCH} is not held here"):
            call()
    hand.worker.release(EPOCH)
    hand.worker.abort(EPOCH)
    with pytest.raises(StalePlanError, match="released or aborted"):
        hand.worker.prepare(hand.preparation())


def test_a_peer_that_cannot_be_dialled_is_named_by_both_ranks(hand: ByHand) -> None:
    hand.worker.prepare(hand.preparation())
    hand.worker.load(EPOCH, hand.chunks())
    hand.peer_listener.close()
    with pytest.raises(PeerLostError, match="rank 0 cannot reach memory:") as caught:
        hand.worker.commit(EPOCH, timeout_s=1.0)
    assert (caught.value.rank, caught.value.peer) == (0, 1)


def test_an_epoch_that_is_given_up_while_it_dials_keeps_no_connection(hand: ByHand) -> None:
    hand.worker.prepare(hand.preparation())
    hand.worker.load(EPOCH, hand.chunks())
    accept = hand._accept

    def slow(*args: Any) -> Any:
        hand.worker.abort(EPOCH)
        return accept(*args)

    hand.network.listeners[hand.peer_listener.address].accept = slow
    with pytest.raises(StalePlanError, match="given up while it was committed"):
        hand.worker.commit(EPOCH, timeout_s=1.0)
    hand.threads.sleep(0.1)
    assert hand.peer.lost == [None]


# Connections.


def test_who_has_no_key_is_not_let_in(hand: ByHand) -> None:
    hand.open()
    with pytest.raises(AccessDeniedError, match="has not proved"):
        hand.dial(key=bytes(32))


def test_a_client_connects_once_and_higher_ranks_not_at_all(hand: ByHand) -> None:
    hand.open()
    for rank in (CLIENT, 1):
        with pytest.raises(StalePlanError, match=f"no connection from rank {rank} is due"):
            hand.dial(rank=rank)


def test_a_lost_peer_is_told_to_the_client_by_request(hand: ByHand) -> None:
    hand.open()
    hand.send(hand.client, 1)
    hand.peer.connection.close()
    hand.threads.sleep(0.1)
    (frame,) = hand.client.of(Kind.FAILURE)
    assert (frame.request_id, frame.source) == (1, 0)
    error = failure(frame)
    assert isinstance(error, PeerLostError) and (error.rank, error.peer) == (0, 1)
    hand.send(hand.client, 2)  # and what comes later fails as well
    assert [frame.request_id for frame in hand.client.of(Kind.FAILURE)] == [1, 2]


def test_a_lost_peer_is_told_to_the_client_also_when_no_request_is_there(hand: ByHand) -> None:
    hand.open()
    hand.peer.connection.close()
    hand.threads.sleep(0.1)
    (frame,) = hand.client.of(Kind.FAILURE)
    assert frame.request_id == NO_REQUEST
    assert isinstance(failure(frame), PeerLostError)


def test_a_peer_that_sends_what_is_not_due_is_broken(hand: ByHand) -> None:
    hand.open()
    hand.send(hand.peer, 1, tag=99)
    hand.threads.sleep(0.1)
    (frame,) = hand.client.of(Kind.FAILURE)
    error = failure(frame)
    assert isinstance(error, PeerLostError) and error.is_broken and "no frame 99 from rank 1" in str(error)
    assert hand.peer.lost == [None]


def test_a_lost_client_frees_the_epoch_and_tells_the_peers(hand: ByHand) -> None:
    hand.open()
    hand.send(hand.client, 1)
    hand.client.connection.close()
    hand.threads.sleep(0.1)
    assert hand.worker.status() == ()
    assert hand.peer.lost == [None]


def test_a_late_frame_does_no_harm(hand: ByHand) -> None:
    hand.open()
    hand.send(hand.client, 1)
    hand.send(hand.peer, 1)
    hand.send(hand.peer, 1)
    hand.send(hand.client, 2)
    hand.send(hand.peer, 2)
    assert [frame.request_id for frame in hand.client.of(Kind.TENSOR)] == [1, 2]
    assert hand.client.of(Kind.FAILURE) == [] and hand.peer.lost == []


def test_a_cancelled_request_ends_and_its_frames_are_late(hand: ByHand) -> None:
    hand.open()
    hand.send(hand.client, 1)
    assert hand.worker.ping(()) == 1
    hand.client.connection.send(Frame(kind=Kind.CANCEL, epoch=EPOCH, source=CLIENT, request_id=1))
    hand.threads.sleep(0.1)
    assert hand.worker.ping(()) == 0
    hand.send(hand.peer, 1)
    assert hand.client.frames == [] and hand.peer.lost == []


# Failures of programs.


@pytest.mark.parametrize(
    ("error", "expected", "says"),
    [
        (ValueError("/secret/path"), WorkerFailedError, "the program raised ValueError"),
        (MemoryError(), WorkerOutOfMemoryError, "ran out of memory"),
        (StalePlanError("old"), StalePlanError, "old"),
    ],
)
def test_what_a_program_raises_is_told_without_its_secrets(
    hand: ByHand, error: Exception, expected: type[EdgeflowError], says: str
) -> None:
    hand.open()
    hand.executor.error = error
    hand.send(hand.client, 1)
    (frame,) = hand.client.of(Kind.FAILURE)
    found = failure(frame)
    assert type(found) is expected and says in str(found) and "secret" not in str(found)
    hand.executor.error = None
    hand.send(hand.client, 2)
    hand.send(hand.peer, 2)
    assert [frame.request_id for frame in hand.client.of(Kind.TENSOR)] == [2]


# Time.


def test_a_release_waits_for_the_last_request(hand: ByHand) -> None:
    hand.open()
    hand.send(hand.client, 1)
    hand.worker.release(EPOCH)
    assert [status.phase for status in hand.worker.status()] == [Phase.DRAINING]
    hand.send(hand.client, 2)
    assert isinstance(failure(hand.client.frames[0]), StalePlanError)
    hand.send(hand.peer, 1)
    assert [frame.request_id for frame in hand.client.of(Kind.TENSOR)] == [1]
    assert hand.worker.status() == ()


def test_an_epoch_whose_coordinator_falls_silent_is_forgotten(hand: ByHand) -> None:
    hand.open()
    hand.worker.ping((EPOCH, 99))
    hand.threads.sleep(LEASE_S - 1.0)
    hand.worker.tick()
    assert len(hand.worker.status()) == 1
    hand.threads.sleep(2.0)
    hand.worker.tick()
    assert hand.worker.status() == ()


def test_an_epoch_whose_client_never_comes_is_forgotten(hand: ByHand) -> None:
    hand.worker.prepare(hand.preparation())
    hand.threads.sleep(UNATTENDED_S + 1.0)
    hand.worker.tick()
    assert hand.worker.status() == ()


def test_the_report_tells_when_instructions_ran(hand: ByHand) -> None:
    hand.open()
    for request_id in (1, 2, 3):
        hand.send(hand.client, request_id)
        hand.send(hand.peer, request_id)
    records, num_dropped = hand.worker.report(EPOCH, min_request_id=2)
    assert [request_id for request_id, _ in records] == [2, 3]
    assert num_dropped == 0
    assert all(item.start_s <= item.stop_s for _, items in records for item in items)


def test_closing_forgets_everything(program: Program, tmp_path: Path) -> None:
    hand = ByHand(program, tmp_path)
    hand.open()
    hand.send(hand.client, 1)
    hand.close()
    assert hand.worker.status() == ()


@pytest.mark.parametrize("speed", [0.0, -1.0, 1.5])
def test_a_speed_that_makes_no_sense_is_refused(speed: float, hand: ByHand) -> None:
    from edgeflow.worker.worker import Worker

    with pytest.raises(ConfigError, match="speed must be above 0 and at most 1"):
        Worker(
            executor=hand.executor,
            transport=hand.transport,
            cache=hand.worker._cache,
            memory_limit_bytes=1,
            speed=speed,
        )


def test_the_key_is_not_shown(hand: ByHand) -> None:
    assert repr(KEY) not in repr(hand.preparation())
