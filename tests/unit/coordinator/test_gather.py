"""Who goes with whom, and when: a table of what happens at which time, and what is begun."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeflow.coordinator.gather import Gatherer
from edgeflow.errors import ConfigError, OverloadedError


def gatherer(**options: Any) -> Gatherer:
    return Gatherer(**{"size": 3, "max_wait_s": 1.0, "max_in_flight": 2, "max_waiting": 10, **options})


def begun(gatherer: Gatherer, now_s: float) -> list[tuple[int, ...]]:
    found = []
    while (together := gatherer.take(now_s)) is not None:
        found.append(together.requests)
    return found


#: What comes at which time, when it is asked, what begins, and when to ask again.
TABLE: dict[str, tuple[dict[int, float], float, list[tuple[int, ...]], float]] = {
    "nothing": ({}, 0.0, [], math.inf),
    "a full batch begins at once": ({1: 0.0, 2: 0.0, 3: 0.0}, 0.0, [(1, 2, 3)], math.inf),
    "one that is not full waits": ({1: 0.0, 2: 0.5}, 0.9, [], 1.0),
    "for as long as its oldest may": ({1: 0.0, 2: 0.5}, 1.0, [(1, 2)], math.inf),
    "those left over wait from when they came": ({1: 0.0, 2: 0.1, 3: 0.2, 4: 0.3}, 0.3, [(1, 2, 3)], 1.3),
    "no more than may are under way": (
        dict.fromkeys(range(1, 9), 0.0),
        5.0,
        [(1, 2, 3), (4, 5, 6)],
        math.inf,
    ),
}


@pytest.mark.parametrize("what", TABLE)
def test_when_batches_begin(what: str) -> None:
    came, now_s, expected, next_s = TABLE[what]
    waiting = gatherer()
    for request, at_s in came.items():
        waiting.add(request, at_s)
    assert begun(waiting, now_s) == expected
    assert waiting.next_s == next_s


def test_requests_gather_while_the_workers_are_busy() -> None:
    waiting = gatherer(max_in_flight=1)
    waiting.add(1, 0.0)
    assert begun(waiting, 1.0) == [(1,)]
    for request in (2, 3, 4, 5):
        waiting.add(request, 1.5)
    assert begun(waiting, 9.0) == []
    assert waiting.end(1) == (1,)
    assert begun(waiting, 9.0) == [(2, 3, 4)]
    assert waiting.end(2) == (2, 3, 4)
    assert begun(waiting, 9.0) == [(5,)]  # it has waited for long enough meanwhile


def test_one_more_than_may_wait_is_refused() -> None:
    waiting = gatherer(max_waiting=2)
    waiting.add(1, 0.0)
    waiting.add(2, 0.0)
    with pytest.raises(OverloadedError, match="2 requests wait already, at most 2 may; 0 batches are under"):
        waiting.add(3, 0.0)
    assert begun(waiting, 1.0) == [(1, 2)]
    waiting.add(3, 1.0)


def test_a_batch_is_of_no_use_when_nobody_waits_for_any_of_it() -> None:
    waiting = gatherer()
    for request in (1, 2, 3):
        waiting.add(request, 0.0)
    assert waiting.drop(2) is None  # it was in no batch
    assert begun(waiting, 1.0) == [(1, 3)]
    assert waiting.is_wanted(1)
    assert waiting.drop(1) is None
    assert waiting.drop(1) is None
    assert waiting.drop(3) == 1
    assert not waiting.is_wanted(1)
    assert waiting.end(1) == ()
    assert waiting.end(1) == ()


def test_time_is_up_for_those_that_wait_and_those_under_way() -> None:
    waiting = gatherer(size=2)
    waiting.add(1, 0.0, 3.0)
    waiting.add(2, 0.0)
    waiting.add(3, 0.0, 0.5)
    assert begun(waiting, 0.0) == [(1, 2)]
    assert waiting.next_s == 0.5
    assert waiting.late(0.4) == ()
    assert waiting.late(0.5) == (3,)
    waiting.drop(3)
    assert waiting.next_s == 3.0
    assert waiting.late(3.0) == (1,)
    waiting.drop(1)
    assert waiting.end(1) == (2,)


@pytest.mark.parametrize(
    "options", [{"size": 0}, {"max_in_flight": 0}, {"max_waiting": 0}, {"max_wait_s": -1.0}]
)
def test_limits_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        gatherer(**options)


@given(
    steps=st.lists(st.sampled_from(["add", "end", "drop", "wait"]), max_size=60),
    size=st.integers(1, 4),
    max_in_flight=st.integers(1, 3),
)
def test_every_request_is_begun_once_and_in_order(steps: list[str], size: int, max_in_flight: int) -> None:
    waiting = gatherer(size=size, max_in_flight=max_in_flight, max_waiting=100)
    now_s, came, dropped, taken, running = 0.0, 0, set(), [], []

    def look() -> None:
        while (together := waiting.take(now_s)) is not None:
            assert 1 <= len(together.requests) <= size
            taken.extend(together.requests)
            running.append(together.batch)
            assert len(running) <= max_in_flight

    for step in steps:
        if step == "add":
            came += 1
            waiting.add(came, now_s)
        elif step == "drop" and came > len(taken) + len(dropped):
            if waiting.is_waiting(came):
                waiting.drop(came)
                dropped.add(came)
        elif step == "end" and running:
            waiting.end(running.pop(0))
        elif step == "wait":
            now_s += 1.0
        look()
    while running:
        waiting.end(running.pop(0))
        now_s += 1.0
        look()
    now_s += 1.0
    look()
    while running:
        waiting.end(running.pop(0))
        look()
    assert taken == [request for request in range(1, came + 1) if request not in dropped]
