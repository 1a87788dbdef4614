"""The client's decisions: deadlines on top of what a rank decides."""

from __future__ import annotations

import pytest

from edgeflow.coordinator.requests import ClientState, Expected, Tick
from edgeflow.errors import DeadlineExceededError, StalePlanError
from edgeflow.rank import events as r
from edgeflow.rank.schedule import FrameKey

ANSWER = FrameKey(peer=3, tag=9)


def new_state() -> ClientState:
    state = ClientState()
    state.handle(r.EpochOpened(epoch=1, receives=frozenset({ANSWER}), is_announced=True, max_active=2))
    return state


def waiting(request_id: int, deadline_s: float) -> ClientState:
    """A request that has sent its inputs at time 0 and waits for the answer."""
    state = new_state()
    state.handle(Expected(1, request_id, deadline_s, 0.0))
    assert state.handle(r.Submitted(1, request_id)) == [r.StartRequest(1, request_id)]
    state.handle(r.RequestWaits(1, request_id, (ANSWER,)))
    return state


def test_a_late_request_fails_with_the_numbers() -> None:
    state = waiting(1, deadline_s=10.0)
    assert state.handle(Tick(9.9)) == []
    failure, drop = state.handle(Tick(10.0))
    assert isinstance(failure, r.FailRequest) and isinstance(failure.error, DeadlineExceededError)
    assert str(failure.error) == "request 1 had no answer in 10.0 s; it waits for frame 9 from rank 3"
    assert drop == r.DropRequest(1, 1)
    assert state.handle(r.FrameArrived(1, 1, ANSWER, 40)) == [r.Discard("late")]
    assert state.handle(Tick(20.0)) == []


def test_an_answered_request_has_no_deadline_any_more() -> None:
    state = waiting(1, deadline_s=10.0)
    assert state.handle(r.FrameArrived(1, 1, ANSWER, 40)) == [r.Keep(), r.Deliver(1, 1, ANSWER)]
    assert state.handle(r.RequestFinished(1, 1)) == [r.FinishRequest(1, 1), r.DropRequest(1, 1)]
    assert state.handle(Tick(99.0)) == []


def test_of_several_requests_only_the_late_ones_fail() -> None:
    state = waiting(1, deadline_s=5.0)
    state.handle(Expected(1, 2, 7.0, 1.0))
    state.handle(r.Submitted(1, 2))
    state.handle(r.RequestWaits(1, 2, (ANSWER,)))
    assert [item.request_id for item in state.handle(Tick(6.0)) if isinstance(item, r.DropRequest)] == [1]
    (failure, _) = state.handle(Tick(7.5))
    assert isinstance(failure, r.FailRequest) and "no answer in 6.5 s" in str(failure.error)


def test_a_request_that_was_refused_is_forgotten() -> None:
    state = new_state()
    state.handle(r.EpochDrains(1, StalePlanError("going")))
    state.handle(Expected(1, 1, 5.0, 0.0))
    with pytest.raises(StalePlanError, match="going"):
        state.handle(r.Submitted(1, 1))
    state.forget(1, 1)
    assert state.handle(Tick(9.0)) == []
