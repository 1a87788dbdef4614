"""The coordinator's decisions about a deployment: all workers hold the plan, or none does."""

from __future__ import annotations

import itertools

import pytest

from edgeflow.coordinator.state import (
    Call,
    CallDone,
    CallFailed,
    CancelCall,
    CloseRequested,
    DeploymentState,
    Finish,
    Interrupted,
    MakeCall,
    Opened,
    Phase,
)
from edgeflow.errors import WorkerOverloadedError

STEPS = (Call.DESCRIBE, Call.PREPARE, Call.LOAD, Call.COMMIT, Call.ATTACH)


def calls(call: Call, *ranks: int) -> list[MakeCall]:
    return [MakeCall(rank, call) for rank in ranks]


def advanced(call: Call) -> DeploymentState:
    """A deployment on ranks 0 and 2 that has just asked for ``call``."""
    state = DeploymentState([2, 0])
    state.handle(Opened())
    for _ in STEPS[: STEPS.index(call)]:
        state.handle(CallDone(0))
        state.handle(CallDone(2))
    return state


def committed() -> DeploymentState:
    state = advanced(Call.ATTACH)
    state.handle(CallDone(0))
    assert state.handle(CallDone(2)) == [Finish()]
    return state


def test_every_worker_takes_a_step_before_any_takes_the_next() -> None:
    state = DeploymentState([2, 0])
    assert state.handle(Opened()) == calls(Call.DESCRIBE, 0, 2)
    for call in STEPS[1:]:
        assert state.handle(CallDone(2)) == []
        assert state.handle(CallDone(0)) == calls(call, 0, 2)
    state.handle(CallDone(0))
    assert state.handle(CallDone(2)) == [Finish()]
    assert state.phase is Phase.COMMITTED


def test_a_worker_that_is_not_there_needs_no_abort() -> None:
    state, error = advanced(Call.DESCRIBE), WorkerOverloadedError("x")
    assert state.handle(CallFailed(0, error)) == [CancelCall(2)]
    assert state.handle(CallDone(2)) == [Finish(error)]
    assert state.phase is Phase.FAILED


@pytest.mark.parametrize("call", STEPS[1:])
@pytest.mark.parametrize("first", [0, 2])
def test_after_prepare_everybody_is_told_to_forget(call: Call, first: int) -> None:
    """Also the one that failed: its answer may have been lost, not its work."""
    state, error, other = advanced(call), WorkerOverloadedError("full"), 2 - first
    assert state.handle(CallFailed(first, error)) == [CancelCall(other)]
    # Not before every call has come to its end: an abort must not overtake what it undoes.
    assert state.phase.value == "failing"
    assert state.handle(CallDone(other)) == calls(Call.ABORT, 0, 2)
    assert state.handle(CallDone(0)) == []
    assert state.handle(CallFailed(2, RuntimeError("gone"))) == [Finish(error)]
    assert state.phase is Phase.FAILED


def test_the_first_error_is_the_one_that_is_raised() -> None:
    state, first, second = advanced(Call.LOAD), ValueError("first"), ValueError("second")
    state.handle(CallFailed(2, first))
    assert state.handle(CallFailed(0, second)) == calls(Call.ABORT, 0, 2)
    state.handle(CallDone(0))
    assert state.handle(CallDone(2)) == [Finish(first)]


@pytest.mark.parametrize("call", STEPS)
def test_an_interrupt_ends_what_is_under_way(call: Call) -> None:
    state, interrupt = advanced(call), KeyboardInterrupt()
    assert state.handle(Interrupted(interrupt)) == [CancelCall(0), CancelCall(2)]
    assert state.handle(Interrupted(KeyboardInterrupt())) == []
    state.handle(CallFailed(0, ValueError()))
    instructions = state.handle(CallFailed(2, ValueError()))
    if call is not Call.DESCRIBE:
        assert instructions == calls(Call.ABORT, 0, 2)
        state.handle(CallDone(0))
        instructions = state.handle(CallDone(2))
    assert instructions == [Finish(interrupt)]


@pytest.mark.parametrize(("is_idle", "call"), [(True, Call.RELEASE), (False, Call.ABORT)])
def test_closing(is_idle: bool, call: Call) -> None:
    state = committed()
    assert state.handle(CloseRequested(is_idle)) == calls(call, 0, 2)
    assert state.handle(CallFailed(0, ValueError("gone"))) == []  # a dead worker does not hold it up
    assert state.handle(CallDone(2)) == [Finish()]
    assert state.phase is Phase.CLOSED
    assert state.handle(CloseRequested(is_idle)) == []


@pytest.mark.parametrize("failures", list(itertools.product([False, True], repeat=4)))
def test_whatever_fails_it_ends_and_nobody_is_left_prepared(failures: tuple[bool, ...]) -> None:
    """Walk through every pattern of failures in the first two steps."""
    state = DeploymentState([0, 1])
    pending = list(state.handle(Opened()))
    outcomes = iter(failures)
    held: set[int] = set()
    while pending:
        instruction = pending.pop(0)
        if isinstance(instruction, Finish):
            break
        if isinstance(instruction, MakeCall):
            if instruction.call is Call.PREPARE:
                held.add(instruction.rank)  # even if the answer is an error
            if instruction.call is Call.ABORT:
                held.discard(instruction.rank)
            fails = next(outcomes, False) and instruction.call is not Call.ABORT
            event = CallFailed(instruction.rank, ValueError()) if fails else CallDone(instruction.rank)
            pending += state.handle(event)
    assert state.phase is (Phase.FAILED if any(failures) else Phase.COMMITTED)
    assert held == (set() if any(failures) else {0, 1})
