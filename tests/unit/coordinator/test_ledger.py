"""Requests across plans, without a socket or a clock: events in, instructions out."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeflow.coordinator.ledger import (
    MAX_ATTEMPTS,
    Abandoned,
    Answer,
    Answered,
    Begin,
    Cancel,
    Closed,
    Drained,
    Fail,
    Failed,
    Ledger,
    NoPlan,
    Opened,
    Submitted,
    Tick,
    WayLost,
)
from edgeflow.errors import (
    ClusterError,
    DeadlineExceededError,
    EdgeflowError,
    OverloadedError,
    WorkerFailedError,
    WorkerUnreachableError,
)

LOST = WorkerUnreachableError("gone")


def ledger(*ways: int, max_in_flight: int = 2, max_waiting: int = 100) -> Ledger:
    made = Ledger(timeout_s=10.0, max_in_flight=max_in_flight, max_waiting=max_waiting)
    if ways:
        assert made.handle(Opened(dict.fromkeys(ways, 1.0)), 0.0) == []
    return made


def test_a_request_is_begun_and_answered_once() -> None:
    book = ledger(7)
    assert book.handle(Submitted(1), 5.0) == [Begin(7, 1, 15.0)]
    assert book.handle(Answered(7, 1, 0.1), 6.0) == [Answer(1)]
    assert book.handle(Answered(7, 1, 0.1), 6.0) == []
    assert book.num_pending == 0


def test_requests_of_a_lost_way_are_begun_again_on_the_next_with_the_time_that_is_left() -> None:
    book = ledger(7)
    for number in (1, 2, 3):
        book.handle(Submitted(number), 1.0)
    assert book.handle(WayLost(7, LOST), 4.0) == [Cancel(7, 1), Cancel(7, 2)]
    assert book.handle(WayLost(7, LOST), 4.0) == []
    assert book.num_waiting == 3 and book.open_ways == ()
    assert book.handle(Opened({8: 1.0}), 5.0) == [Begin(8, 1, 11.0), Begin(8, 2, 11.0)]
    assert book.handle(Answered(7, 1, 0.1), 5.0) == []  # too late: it is another way's now
    assert book.handle(Answered(8, 1, 0.1), 6.0) == [Answer(1), Begin(8, 3, 16.0)]
    assert book.num_replayed == 2


def test_a_retired_way_ends_what_it_has_begun_and_is_let_go() -> None:
    book = ledger(7)
    for number in (1, 2, 3):
        book.handle(Submitted(number), 0.0)
    assert book.handle(Opened({8: 1.0}), 1.0) == [Begin(8, 3, 11.0)]
    assert book.handle(Answered(7, 2, 0.1), 1.0) == [Answer(2)]
    assert book.handle(Answered(7, 1, 0.1), 1.0) == [Answer(1), Drained(7)]


def test_an_idle_way_is_let_go_at_once() -> None:
    book = ledger(7)
    assert book.handle(Opened({8: 1.0}), 1.0) == [Drained(7)]


def test_a_retired_way_that_is_lost_gives_its_requests_to_the_new_one() -> None:
    book = ledger(7)
    book.handle(Submitted(1), 0.0)
    book.handle(Opened({8: 1.0}), 1.0)
    assert book.handle(WayLost(7, LOST), 2.0) == [Cancel(7, 1), Begin(8, 1, 10.0)]


def test_what_a_kernel_raises_is_the_requests_own_fault() -> None:
    book = ledger(7)
    book.handle(Submitted(1), 0.0)
    error = WorkerFailedError("no")
    assert book.handle(Failed(7, 1, error), 0.0) == [Fail(1, error)]


def test_a_request_that_never_succeeds_fails_in_the_end() -> None:
    book = ledger(7)
    assert book.handle(Submitted(1), 0.0) == [Begin(7, 1, 10.0)]
    for _ in range(MAX_ATTEMPTS - 1):
        assert book.handle(Failed(7, 1, LOST), 0.0) == [Begin(7, 1, 10.0)]
    assert book.handle(Failed(7, 1, LOST), 0.0) == [Fail(1, LOST)]


def test_without_a_plan_requests_fail_until_there_is_one() -> None:
    book = ledger(7)
    book.handle(Submitted(1), 0.0)
    book.handle(WayLost(7, LOST), 0.0)
    error = ClusterError("nobody is left")
    assert book.handle(NoPlan(error), 1.0) == [Fail(1, error)]
    with pytest.raises(ClusterError, match="nobody is left"):
        book.handle(Submitted(2), 1.0)
    book.handle(Opened({8: 1.0}), 2.0)
    assert book.handle(NoPlan(error), 2.0) == []  # there is one
    assert book.handle(Submitted(3), 2.0) == [Begin(8, 3, 12.0)]


def test_of_several_ways_one_may_be_lost() -> None:
    book = ledger(7, 8)
    assert book.handle(Submitted(1), 0.0) == [Begin(7, 1, 10.0)]
    assert book.handle(Submitted(2), 0.0) == [Begin(8, 2, 10.0)]
    assert book.handle(WayLost(7, LOST), 1.0) == [Cancel(7, 1), Begin(8, 1, 10.0)]
    assert book.open_ways == (8,)


def test_a_full_queue_refuses_and_changes_nothing() -> None:
    book = ledger(7, max_in_flight=1, max_waiting=1)
    book.handle(Submitted(1), 0.0)
    book.handle(Submitted(2), 0.0)
    with pytest.raises(OverloadedError, match="1 requests wait already, at most 1 may; 1 are under way"):
        book.handle(Submitted(3), 0.0)
    assert book.num_pending == 2


def test_a_request_that_waits_runs_out_of_its_own_time() -> None:
    book = ledger(7, max_in_flight=1)
    book.handle(Submitted(1), 0.0)
    book.handle(Submitted(2, deadline_s=3.0), 0.0)
    assert book.next_deadline_s == 3.0
    assert book.handle(Tick(), 2.9) == []
    (fail,) = book.handle(Tick(), 3.0)
    assert isinstance(fail, Fail) and fail.request_id == 2 and isinstance(fail.error, DeadlineExceededError)


def test_an_abandoned_request_makes_room() -> None:
    book = ledger(7, max_in_flight=1)
    book.handle(Submitted(1), 0.0)
    book.handle(Submitted(2), 0.0)
    assert book.handle(Abandoned(1), 0.0) == [Cancel(7, 1), Begin(7, 2, 10.0)]
    assert book.handle(Abandoned(1), 0.0) == []


def test_closing_fails_everything() -> None:
    book = ledger(7, max_in_flight=1)
    book.handle(Submitted(1), 0.0)
    book.handle(Submitted(2), 0.0)
    error = ClusterError("closed")
    assert book.handle(Closed(error), 0.0) == [Cancel(7, 1), Fail(1, error), Fail(2, error)]
    assert book.handle(Opened({8: 1.0}), 0.0) == []
    with pytest.raises(ClusterError, match="closed"):
        book.handle(Submitted(3), 0.0)


@given(
    st.lists(st.tuples(st.sampled_from("submit open answer fail lose abandon".split()), st.integers(0, 9)))
)
def test_whatever_happens_every_request_has_one_outcome(steps: list[tuple[str, int]]) -> None:
    """No request is lost, none has two outcomes, and none is on two ways or on one that is gone."""
    book = ledger(0, max_in_flight=2)
    begun: dict[int, tuple[int, ...]] = {0: ()}
    submitted: list[int] = []
    outcomes: Counter[int] = Counter()
    abandoned: set[int] = set()
    next_way = 1
    for what, number in steps:
        event: object
        pairs = [(way, request) for way, on in begun.items() for request in on]
        if what == "submit":
            submitted.append(len(submitted) + 1)
            event = Submitted(submitted[-1])
        elif what == "open":
            event = Opened({next_way: 1.0, next_way + 1: 2.0})
            begun |= {next_way: (), next_way + 1: ()}
            next_way += 2
        elif what == "lose":
            way = sorted(begun)[number % len(begun)]
            if len(begun) == 1:
                continue
            event = WayLost(way, LOST)
            del begun[way]
        elif what == "abandon":
            if not submitted:
                continue
            request = submitted[number % len(submitted)]
            event = Abandoned(request)
            begun = {way: tuple(r for r in on if r != request) for way, on in begun.items()}
            if not outcomes[request]:
                abandoned.add(request)
        elif not pairs:
            continue
        else:
            way, request = pairs[number % len(pairs)]
            error: EdgeflowError = LOST if number % 2 else WorkerFailedError("no")
            event = Answered(way, request, 0.1) if what == "answer" else Failed(way, request, error)
            begun[way] = tuple(r for r in begun[way] if r != request)
        for instruction in book.handle(event, 0.0):  # type: ignore[arg-type]
            match instruction:
                case Begin(way, request, _):
                    assert all(request not in on for on in begun.values())
                    begun[way] = (*begun[way], request)
                    assert len(begun[way]) <= 2
                case Answer(request) | Fail(request, _):
                    outcomes[request] += 1
                case Drained(way):
                    assert begun.pop(way) == ()
    assert all(count == 1 for count in outcomes.values())
    under_way = {request for on in begun.values() for request in on}
    assert book.num_pending == len(set(submitted) - set(outcomes) - abandoned)
    assert under_way <= set(submitted) - set(outcomes) - abandoned
    assert book.num_waiting == book.num_pending - len(under_way)
