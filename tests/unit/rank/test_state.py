"""What a rank decides about requests: events in, instructions out."""

from __future__ import annotations

import pytest

from edgeflow.errors import CodecError, StalePlanError, WorkerFailedError, WorkerOverloadedError
from edgeflow.plan.program import CLIENT
from edgeflow.rank import events as r
from edgeflow.rank.schedule import FrameKey
from edgeflow.rank.state import RankState

FROM_CLIENT, FROM_PEER = FrameKey(CLIENT, 0), FrameKey(2, 7)
RECEIVES = frozenset({FROM_CLIENT, FROM_PEER})


def opened(epoch: int = 1, state: RankState | None = None, **options: int) -> RankState:
    """A rank whose requests begin when their first frame arrives: a worker's."""
    state = state or RankState()
    assert state.handle(r.EpochOpened(epoch=epoch, receives=RECEIVES, **options)) == []
    return state


def announced(*request_ids: int, max_active: int = 2) -> RankState:
    """A rank whose requests are submitted, the client's; they wait for the answer."""
    state = RankState()
    state.handle(
        r.EpochOpened(epoch=1, receives=frozenset({FROM_PEER}), is_announced=True, max_active=max_active)
    )
    for request_id in request_ids:
        state.handle(r.Submitted(1, request_id))
        state.handle(r.RequestWaits(1, request_id, (FROM_PEER,)))
    return state


def frame(
    request_id: int, key: FrameKey = FROM_CLIENT, *, epoch: int = 1, num_bytes: int = 10
) -> r.FrameArrived:
    return r.FrameArrived(epoch, request_id, key, num_bytes)


# Requests that begin with their first frame.


def test_while_a_request_waits_another_runs() -> None:
    state = opened(max_active=4)
    state.handle(frame(1))
    assert state.handle(frame(2)) == [r.Keep()]
    assert state.handle(r.RequestWaits(1, 1, (FROM_PEER,))) == [r.StartRequest(1, 2)]
    assert state.handle(frame(1, FROM_PEER)) == [r.Keep()]
    assert state.handle(r.RequestWaits(1, 2, (FROM_PEER,))) == [r.Deliver(1, 1, FROM_PEER)]


def test_a_duplicate_frame_is_dropped() -> None:
    state = opened()
    state.handle(frame(1))
    assert state.handle(frame(1)) == [r.Discard("duplicate")]


def test_a_frame_that_the_program_does_not_receive_is_the_peers_fault() -> None:
    with pytest.raises(CodecError, match="no frame 99 from rank 0"):
        opened().handle(frame(1, FrameKey(0, 99)))


def test_request_that_does_not_fit_is_refused_not_queued() -> None:
    """Memory is a hard limit: refusing early lets the coordinator wait or go elsewhere."""
    state = opened(early_limit_bytes=100)
    state.handle(frame(1))
    assert state.handle(frame(2, num_bytes=90)) == [r.Keep()]
    discard, failure, drop = state.handle(frame(3, num_bytes=20))
    assert (discard, drop) == (r.Discard("overloaded"), r.DropRequest(1, 3))
    assert isinstance(failure, r.FailRequest) and isinstance(failure.error, WorkerOverloadedError)
    assert "90 bytes are kept" in str(failure.error) and "20 more would exceed 100" in str(failure.error)
    assert state.handle(frame(3, num_bytes=5)) == [r.Discard("late")]


def test_a_program_that_raises_fails_its_request_only() -> None:
    state = opened()
    state.handle(frame(1))
    state.handle(frame(2))
    error = WorkerFailedError("boom")
    assert state.handle(r.RequestFailed(1, 1, error)) == [
        r.FailRequest(1, 1, error),
        r.DropRequest(1, 1),
        r.StartRequest(1, 2),
    ]


def test_cancelling_a_request_that_waits_runs_and_never_came() -> None:
    state = opened()
    state.handle(frame(1))
    assert state.handle(r.RequestAbandoned(1, 1)) == [
        r.DropRequest(1, 1)
    ]  # it runs: its thread is still busy
    assert state.handle(frame(2)) == [r.Keep()]
    assert state.handle(r.RequestWaits(1, 1, (FROM_PEER,))) == [r.StartRequest(1, 2)]
    assert state.handle(r.RequestAbandoned(1, 3)) == []
    assert state.handle(frame(3)) == [r.Discard("late")]
    assert state.handle(r.RequestAbandoned(9, 1)) == []


def test_an_epoch_that_is_not_open() -> None:
    with pytest.raises(StalePlanError, match="epoch 1 takes no frames"):
        RankState().handle(frame(1))
    with pytest.raises(StalePlanError, match="epoch 1 is not open"):
        RankState().handle(r.Submitted(1, 1))


def test_requests_beyond_the_limit_of_pending_ones_are_refused() -> None:
    state = opened(max_pending=2)
    state.handle(frame(1))
    state.handle(frame(2))
    discard, failure, drop = state.handle(frame(3))
    assert (discard, drop) == (r.Discard("refused"), r.DropRequest(1, 3))
    assert isinstance(failure, r.FailRequest) and "2 requests that have not ended" in str(failure.error)


def test_a_draining_epoch_ends_what_it_has_and_refuses_the_rest() -> None:
    state, error = opened(), StalePlanError("going")
    state.handle(frame(1))
    assert state.handle(r.EpochDrains(1, error)) == []
    assert state.handle(frame(2))[:2] == [r.Discard("refused"), r.FailRequest(1, 2, error)]
    assert state.handle(r.RequestFinished(1, 1)) == [r.FinishRequest(1, 1), r.DropRequest(1, 1)]


def test_the_first_refusal_stays() -> None:
    state, first = opened(), StalePlanError("first")
    state.handle(r.EpochDrains(1, first))
    state.handle(r.EpochBroken(1, StalePlanError("second")))
    assert state.handle(frame(1))[1] == r.FailRequest(1, 1, first)


def test_a_closed_epoch_drops_its_requests_and_the_thread_goes_on_elsewhere() -> None:
    state = opened(2, opened(1))
    state.handle(frame(1))
    state.handle(frame(5, epoch=2))
    assert state.handle(r.EpochClosed(1)) == [r.DropRequest(1, 1)]
    assert state.handle(r.RequestWaits(1, 1, (FROM_PEER,))) == [r.StartRequest(2, 5)]


def test_one_thread_runs_the_requests_of_all_epochs_oldest_epoch_first() -> None:
    state = opened(3, opened(2, opened(1)))
    for epoch in (3, 2, 1):
        state.handle(frame(9, epoch=epoch))
    assert state.handle(r.RequestFinished(3, 9))[-1] == r.StartRequest(1, 9)
    assert state.handle(r.RequestFinished(1, 9))[-1] == r.StartRequest(2, 9)


# Requests that are submitted.


def test_a_request_from_submission_to_answer() -> None:
    state = announced()
    assert state.handle(r.Submitted(1, 1)) == [r.StartRequest(1, 1)]
    assert state.handle(r.RequestWaits(1, 1, (FROM_PEER,))) == []
    assert state.handle(frame(1, FROM_PEER)) == [r.Keep(), r.Deliver(1, 1, FROM_PEER)]
    assert state.handle(r.RequestFinished(1, 1)) == [r.FinishRequest(1, 1), r.DropRequest(1, 1)]
    assert state.pending(1) == ()


def test_a_submitted_request_waits_for_its_turn() -> None:
    state = announced(1, max_active=1)
    assert state.handle(r.Submitted(1, 2)) == []
    state.handle(frame(1, FROM_PEER))
    assert state.handle(r.RequestFinished(1, 1))[-1] == r.StartRequest(1, 2)


def test_frames_of_requests_that_were_never_submitted_are_the_peers_fault() -> None:
    with pytest.raises(CodecError, match="request 7 was not submitted"):
        announced(1).handle(frame(7, FROM_PEER))


def test_a_failure_that_another_rank_reports_fails_its_request_once() -> None:
    state, error = announced(1, 2), WorkerFailedError("boom")
    assert state.handle(r.RequestLost(1, 1, error)) == [r.FailRequest(1, 1, error), r.DropRequest(1, 1)]
    assert state.handle(r.RequestLost(1, 1, error)) == []  # from the next worker that noticed
    assert state.handle(r.RequestLost(1, 99, error)) == []
    assert state.pending(1) == (2,)


def test_a_broken_epoch_fails_everything_and_takes_nothing() -> None:
    state, error = announced(1, 2), StalePlanError("rank 3 was lost")
    instructions = state.handle(r.EpochBroken(1, error))
    assert [i for i in instructions if isinstance(i, r.FailRequest)] == [
        r.FailRequest(1, 1, error),
        r.FailRequest(1, 2, error),
    ]
    with pytest.raises(StalePlanError, match="rank 3 was lost"):
        state.handle(r.Submitted(1, 3))


def test_an_abandoned_request_leaves_its_place_to_the_next() -> None:
    state = announced(1, 2)
    state.handle(r.Submitted(1, 3))
    assert state.handle(r.RequestAbandoned(1, 1)) == [r.DropRequest(1, 1), r.StartRequest(1, 3)]
    assert state.handle(r.RequestAbandoned(1, 1)) == []


def test_a_request_that_failed_while_it_ran_says_nothing_more() -> None:
    state = announced()
    state.handle(r.Submitted(1, 1))
    state.handle(r.RequestLost(1, 1, WorkerFailedError("boom")))
    assert state.handle(r.Submitted(1, 2)) == []  # the thread is still in request 1
    assert state.handle(r.RequestWaits(1, 1, (FROM_PEER,))) == [r.StartRequest(1, 2)]
    assert state.handle(r.RequestFinished(1, 1)) == []
