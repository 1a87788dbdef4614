"""The worker's decisions: events in, instructions out."""

from __future__ import annotations

import pytest

from edgeflow.errors import (
    PeerLostError,
    StalePlanError,
    WorkerFailedError,
    WorkerOutOfMemoryError,
    WorkerOverloadedError,
    WorkerUnreachableError,
)
from edgeflow.plan.program import CLIENT
from edgeflow.rank import events as r
from edgeflow.rank.schedule import FrameKey
from edgeflow.worker import events as e
from edgeflow.worker.state import LEASE_S, UNATTENDED_S, Event, Phase, WorkerState, failed

FROM_CLIENT, FROM_PEER = FrameKey(CLIENT, 0), FrameKey(2, 7)


def new_state(**options: int) -> WorkerState:
    return WorkerState(**{"memory_limit_bytes": 1000, "early_limit_bytes": 100, **options})


def prepare(epoch: int = 1, **fields: object) -> e.PrepareRequested:
    values: dict[str, object] = {
        "rank": 1,
        "receives": frozenset({FROM_CLIENT, FROM_PEER}),
        "peers": frozenset({CLIENT, 0, 2, 3}),
        "weight_bytes": 100,
        "peak_bytes": 100,
        "now_s": 0.0,
        **fields,
    }
    return e.PrepareRequested(epoch=epoch, **values)  # type: ignore[arg-type]


def committed(epoch: int = 1, state: WorkerState | None = None, **options: int) -> WorkerState:
    state = state or new_state(**options)
    for event in (prepare(epoch), e.Loaded(epoch), e.CommitRequested(epoch), e.PeerConnected(epoch, CLIENT)):
        state.handle(event)
    return state


def frame(
    request_id: int, key: FrameKey = FROM_CLIENT, *, epoch: int = 1, num_bytes: int = 10
) -> r.FrameArrived:
    return r.FrameArrived(epoch, request_id, key, num_bytes)


# The life of an epoch.


def test_an_epoch_goes_through_its_phases() -> None:
    state = new_state()
    assert state.handle(prepare()) == []
    assert state.status()[0].phase is Phase.PREPARED
    assert state.handle(e.Loaded(1)) == []
    assert state.status()[0].phase is Phase.READY
    assert state.handle(e.CommitRequested(1)) == [e.Dial(1, 2), e.Dial(1, 3)]  # the higher ranks
    assert state.status()[0].phase is Phase.COMMITTED
    assert state.handle(e.ReleaseRequested(1)) == [e.FreeEpoch(1)]
    assert state.status() == ()


@pytest.mark.parametrize("event", [e.Loaded(1), e.CommitRequested(1), e.PeerConnected(1, 0), frame(1)])
def test_an_unknown_epoch_is_stale(event: Event) -> None:
    with pytest.raises(StalePlanError, match="epoch 1"):
        new_state().handle(event)


def test_commit_before_the_weights_are_there() -> None:
    state = new_state()
    state.handle(prepare())
    with pytest.raises(StalePlanError, match="prepared, not ready"):
        state.handle(e.CommitRequested(1))


def test_preparing_twice_and_after_the_end() -> None:
    state = new_state()
    state.handle(prepare())
    with pytest.raises(StalePlanError, match="prepared already"):
        state.handle(prepare())
    state.handle(e.AbortRequested(1))
    with pytest.raises(StalePlanError, match="released or aborted"):
        state.handle(prepare())


def test_an_abort_that_overtakes_its_prepare_wins() -> None:
    """The coordinator gave up while the call was on its way: nothing may stay behind."""
    state = new_state()
    assert state.handle(e.AbortRequested(1)) == []
    with pytest.raises(StalePlanError):
        state.handle(prepare())


def test_a_plan_that_does_not_fit_is_refused_with_the_numbers() -> None:
    state = new_state()
    state.handle(prepare(1, weight_bytes=600))
    with pytest.raises(WorkerOverloadedError, match=r"needs 500 bytes \(400 of weights, 100 of buffers\)"):
        state.handle(prepare(2, weight_bytes=400))
    state.handle(e.AbortRequested(1))
    state.handle(prepare(3, weight_bytes=400))


def test_several_requests_are_active_only_if_their_buffers_fit() -> None:
    roomy, tight = new_state(memory_limit_bytes=10_000), new_state(memory_limit_bytes=250)
    for state in (roomy, tight):
        state.handle(prepare())
    assert roomy.status()[0].reserved_bytes == 100 + 4 * 100
    assert tight.status()[0].reserved_bytes == 100 + 100


def test_two_epochs_at_once() -> None:
    """A new plan is prepared while the old one works; then the old one drains."""
    state = committed(1)
    committed(2, state)
    assert state.handle(frame(5, epoch=1)) == [r.Keep(), r.StartRequest(1, 5)]
    assert state.handle(frame(6, epoch=2)) == [r.Keep()]  # one thread: it is busy
    assert state.handle(e.ReleaseRequested(1)) == []
    assert state.handle(r.RequestFinished(1, 5)) == [
        r.FinishRequest(1, 5),
        r.DropRequest(1, 5),
        r.StartRequest(2, 6),
        e.FreeEpoch(1),
    ]


def test_an_epoch_whose_client_never_came_is_forgotten() -> None:
    state = new_state()
    state.handle(prepare(1, now_s=0.0))
    committed(2, state)
    assert state.handle(e.Tick(UNATTENDED_S)) == []
    assert state.handle(e.Tick(UNATTENDED_S + 1)) == [e.FreeEpoch(1)]


def test_an_epoch_whose_coordinator_fell_silent_is_forgotten() -> None:
    """One that never said that it would speak up again keeps its epoch for as long as it is connected."""
    state = committed(1)
    committed(2, state)
    state.handle(e.LeaseRenewed((1, 99), 5.0))
    assert state.handle(e.Tick(5.0 + LEASE_S)) == []
    assert state.handle(e.Tick(5.1 + LEASE_S)) == [e.FreeEpoch(1)]


def test_running_out_of_memory_is_told_apart() -> None:
    assert isinstance(failed(MemoryError()), WorkerOutOfMemoryError)


# Peers.


@pytest.mark.parametrize("rank", [2, 3, 9, 1, -2])
def test_only_lower_ranks_and_the_client_dial(rank: int) -> None:
    with pytest.raises(StalePlanError, match="no connection"):
        committed().handle(e.PeerConnected(1, rank))


def test_a_peer_connects_once() -> None:
    state = committed()
    assert state.handle(e.PeerConnected(1, 0)) == []
    with pytest.raises(StalePlanError, match="rank 0"):
        state.handle(e.PeerConnected(1, 0))


def test_a_lost_peer_fails_what_is_pending_and_what_comes() -> None:
    state = committed()
    state.handle(frame(1))
    state.handle(r.RequestWaits(1, 1, (FROM_PEER,)))
    state.handle(frame(2))

    instructions = state.handle(e.PeerLost(1, 2, "reset"))
    failures = [i for i in instructions if isinstance(i, r.FailRequest)]
    assert [f.request_id for f in failures] == [1, 2]
    assert all(
        isinstance(f.error, WorkerUnreachableError) and "lost rank 2: reset" in str(f.error) for f in failures
    )
    assert [i.request_id for i in instructions if isinstance(i, r.DropRequest)] == [1, 2]

    state.handle(r.RequestWaits(1, 2, (FROM_PEER,)))  # it was running; what it says is of no interest
    discard, failure, _ = state.handle(frame(3))
    assert discard == r.Discard("refused")
    assert isinstance(failure, r.FailRequest) and failure.request_id == 3


def test_a_lost_peer_is_told_though_no_request_is_here() -> None:
    """One that was may wait elsewhere for what has been sent in vain."""
    state = committed()
    state.handle(frame(1))
    state.handle(frame(1, FROM_PEER))
    state.handle(r.RequestFinished(1, 1))
    (told,) = state.handle(e.PeerLost(1, 2, "nothing acknowledged", is_silent=True))
    assert isinstance(told, e.TellClient) and told.epoch == 1
    assert isinstance(told.error, PeerLostError)
    assert (told.error.rank, told.error.peer, told.error.is_silent) == (1, 2, True)


def test_a_lost_client_frees_the_epoch() -> None:
    state = committed()
    state.handle(frame(1))
    assert state.handle(e.PeerLost(1, CLIENT, "gone")) == [r.DropRequest(1, 1), e.FreeEpoch(1)]
    assert state.handle(r.RequestWaits(1, 1, (FROM_PEER,))) == []
    assert state.handle(e.PeerLost(1, 0, "gone")) == []


# Requests.


def test_a_request_from_its_first_frame_to_its_end() -> None:
    state = committed()
    assert state.handle(frame(1)) == [r.Keep(), r.StartRequest(1, 1)]
    assert state.handle(r.RequestWaits(1, 1, (FROM_CLIENT,))) == [r.Deliver(1, 1, FROM_CLIENT)]
    assert state.handle(r.RequestWaits(1, 1, (FROM_PEER,))) == []
    assert state.handle(frame(1, FROM_PEER)) == [r.Keep(), r.Deliver(1, 1, FROM_PEER)]
    assert state.handle(r.RequestFinished(1, 1)) == [r.FinishRequest(1, 1), r.DropRequest(1, 1)]
    assert state.handle(frame(1, FROM_PEER)) == [r.Discard("late")]


def test_frames_before_commit_are_stale() -> None:
    state = new_state()
    state.handle(prepare())
    with pytest.raises(StalePlanError, match="takes no frames"):
        state.handle(frame(1))


def test_a_request_that_failed_while_it_ran_is_not_failed_twice() -> None:
    state = committed()
    state.handle(frame(1))
    assert len(state.handle(e.PeerLost(1, 2, "reset"))) == 2
    assert state.handle(r.RequestFailed(1, 1, WorkerFailedError("send failed"))) == []


def test_draining_finishes_what_has_begun_and_takes_nothing_new() -> None:
    state = committed()
    state.handle(frame(1))
    assert state.handle(e.ReleaseRequested(1)) == []
    discard, failure, _ = state.handle(frame(2))
    assert discard == r.Discard("refused")
    assert isinstance(failure, r.FailRequest) and isinstance(failure.error, StalePlanError)
    state.handle(r.RequestWaits(1, 1, (FROM_PEER,)))
    assert state.handle(frame(1, FROM_PEER)) == [r.Keep(), r.Deliver(1, 1, FROM_PEER)]
    assert state.handle(r.RequestFinished(1, 1)) == [
        r.FinishRequest(1, 1),
        r.DropRequest(1, 1),
        e.FreeEpoch(1),
    ]


def test_release_and_abort_of_an_unknown_epoch_are_no_error() -> None:
    assert new_state().handle(e.ReleaseRequested(5)) == []
    assert new_state().handle(e.AbortRequested(5)) == []


def test_foreign_exceptions_say_no_more_than_their_class() -> None:
    assert "secret" not in str(failed(ValueError("secret")))
    assert "ValueError" in str(failed(ValueError("secret")))
    assert str(failed(StalePlanError("old"))) == "old"
