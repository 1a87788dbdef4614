"""The coordinator's decisions about requests: each is answered once, or fails once, and in time."""

from __future__ import annotations

import pytest

from edgeflow.coordinator.requests import (
    AnswerRequest,
    CancelRequest,
    Closed,
    Deliver,
    Discard,
    FailRequest,
    FailureArrived,
    FrameArrived,
    Keep,
    RequestAbandoned,
    RequestFailed,
    RequestFinished,
    RequestsState,
    RequestWaits,
    StartRequest,
    Submitted,
    Tick,
    WorkerLost,
)
from edgeflow.errors import (
    ClusterError,
    CodecError,
    DeadlineExceededError,
    WorkerFailedError,
    WorkerUnreachableError,
)
from edgeflow.rank.schedule import FrameKey

ANSWER = FrameKey(peer=3, tag=9)


def new_state(max_in_flight: int = 2) -> RequestsState:
    return RequestsState(frozenset({ANSWER}), timeout_s=10.0, max_in_flight=max_in_flight)


def waiting(*request_ids: int) -> RequestsState:
    """Requests that have sent their inputs and wait for the answer."""
    state = new_state()
    for request_id in request_ids:
        state.handle(Submitted(request_id), 0.0)
        state.handle(RequestWaits(request_id, (ANSWER,)), 0.0)
    return state


def test_a_request_from_submission_to_answer() -> None:
    state = new_state()
    assert state.handle(Submitted(1), 0.0) == [StartRequest(1)]
    assert state.next_deadline_s == 10.0
    assert state.handle(RequestWaits(1, (ANSWER,)), 1.0) == []
    assert state.handle(FrameArrived(1, ANSWER, 40), 2.0) == [Keep(), Deliver(1, ANSWER)]
    assert state.handle(RequestFinished(1), 3.0) == [AnswerRequest(1)]
    assert state.pending == () and state.next_deadline_s is None


def test_the_time_of_a_queued_request_runs_from_its_start() -> None:
    state = new_state(max_in_flight=1)
    state.handle(Submitted(1), 0.0)
    assert state.handle(Submitted(2), 0.0) == []
    state.handle(RequestWaits(1, (ANSWER,)), 0.0)
    state.handle(FrameArrived(1, ANSWER, 40), 7.0)
    assert state.handle(RequestFinished(1), 7.0) == [AnswerRequest(1), StartRequest(2)]
    assert state.next_deadline_s == 17.0


def test_a_late_request_fails_with_the_numbers_and_is_cancelled() -> None:
    state = waiting(1)
    assert state.handle(Tick(), 9.9) == []
    failure, cancel = state.handle(Tick(), 10.0)
    assert isinstance(failure, FailRequest) and isinstance(failure.error, DeadlineExceededError)
    assert str(failure.error) == "request 1 had no answer in 10.0 s; it waits for frame 9 from rank 3"
    assert cancel == CancelRequest(1)
    assert state.handle(FrameArrived(1, ANSWER, 40), 11.0) == [Discard("late")]
    assert state.handle(Tick(), 20.0) == []


def test_a_failure_from_a_worker_fails_its_request_only() -> None:
    state, error = waiting(1, 2), WorkerFailedError("boom")
    assert state.handle(FailureArrived(1, error), 1.0) == [FailRequest(1, error), CancelRequest(1)]
    assert state.handle(FailureArrived(1, error), 1.0) == []  # from the next worker that noticed
    assert state.pending == (2,)


def test_a_lost_worker_fails_everything_and_what_comes() -> None:
    state = waiting(1, 2)
    instructions = state.handle(WorkerLost(3, WorkerUnreachableError("reset")), 1.0)
    failures = [i for i in instructions if isinstance(i, FailRequest)]
    assert [failure.request_id for failure in failures] == [1, 2]
    assert all(isinstance(failure.error, WorkerUnreachableError) for failure in failures)
    with pytest.raises(WorkerUnreachableError, match="rank 3 was lost: reset"):
        state.handle(Submitted(3), 2.0)


def test_closing_fails_what_is_pending() -> None:
    state, error = waiting(1), ClusterError("closed")
    assert state.handle(Closed(error), 1.0) == [FailRequest(1, error), CancelRequest(1)]
    with pytest.raises(ClusterError, match="closed"):
        state.handle(Submitted(2), 2.0)


def test_an_abandoned_request_is_cancelled_and_its_slot_is_free() -> None:
    state = waiting(1, 2)
    state.handle(Submitted(3), 0.0)
    assert state.handle(RequestAbandoned(1), 1.0) == [CancelRequest(1), StartRequest(3)]
    assert state.handle(RequestAbandoned(1), 1.0) == []


def test_the_clients_own_program_may_fail() -> None:
    state, error = new_state(), WorkerUnreachableError("has ended")
    state.handle(Submitted(1), 0.0)
    assert state.handle(RequestFailed(1, error), 0.0) == [FailRequest(1, error), CancelRequest(1)]


def test_a_request_that_failed_while_it_ran_says_nothing_more() -> None:
    state = new_state()
    state.handle(Submitted(1), 0.0)
    state.handle(FailureArrived(1, WorkerFailedError("boom")), 0.0)
    assert state.handle(Submitted(2), 0.0) == []  # the thread is still in request 1
    assert state.handle(RequestWaits(1, (ANSWER,)), 0.0) == [StartRequest(2)]
    assert state.handle(RequestFinished(1), 0.0) == []


def test_duplicates_and_strangers() -> None:
    state = new_state()
    state.handle(Submitted(1), 0.0)
    state.handle(FrameArrived(1, ANSWER, 40), 0.0)
    assert state.handle(FrameArrived(1, ANSWER, 40), 0.0) == [Discard("duplicate")]
    with pytest.raises(CodecError, match="no frame 4 from rank 0"):
        state.handle(FrameArrived(1, FrameKey(0, 4), 40), 0.0)
