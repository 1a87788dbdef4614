"""A stream of requests: each is counted once, as answered, failed or changed, on a fake clock."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgeflow.demo.stream import Event, Failure, Second, Streamed, stream


class Clock:
    """A clock that stands still between requests."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def session(*decisions: Any) -> Any:
    devices = [SimpleNamespace(name="fast"), SimpleNamespace(name="slow")]
    plan = SimpleNamespace(cluster=SimpleNamespace(devices=devices), devices=(0, 1))
    return SimpleNamespace(plan=plan, decisions=list(decisions))


def answers(clock: Clock, *made: Any, each_s: float) -> Callable[[], Any]:
    """A request that takes ``each_s`` and gives the answers in turn; None raises."""
    left = list(made)

    def request() -> Any:
        clock.now_s += each_s
        found = left.pop(0)
        if found is None:
            raise RuntimeError("it broke")
        return found

    return request


def test_each_request_is_counted_once() -> None:
    clock = Clock()
    made = [np.ones(2), np.ones(2), None, np.full(2, 1.1), np.ones(2) + 1e-6]
    events: list[Event] = []

    seen = stream(
        session(), answers(clock, *made, each_s=0.25), seconds=1.25, on_event=events.append, clock=clock
    )

    assert seen == Streamed(answered=4, failed=1, changed=1)
    (failure,) = [event for event in events if isinstance(event, Failure)]
    assert failure.elapsed_s == pytest.approx(0.5)
    assert str(failure.error) == "it broke"


def test_each_second_has_the_latencies_since_the_one_before() -> None:
    clock = Clock()
    events: list[Event] = []

    stream(
        session(),
        answers(clock, *[np.ones(1)] * 8, each_s=0.25),
        seconds=2.0,
        on_event=events.append,
        clock=clock,
    )

    assert events == [
        Second(1.0, (0.25, 0.25, 0.25, 0.25), ("fast", "slow")),
        Second(2.0, (0.25, 0.25, 0.25, 0.25), ("fast", "slow")),
    ]


def test_each_switch_is_told_once() -> None:
    clock = Clock()
    switch = SimpleNamespace(verdict="switch")
    stay = SimpleNamespace(verdict="stay")
    watched = session(stay, switch)
    events: list[Any] = []
    request = answers(clock, *[np.ones(1)] * 3, each_s=0.25)

    def request_then_another_switch() -> Any:
        if clock.now_s == 100.25:
            watched.decisions.append(another)
        return request()

    another = SimpleNamespace(verdict="switch")
    stream(watched, request_then_another_switch, seconds=0.75, on_event=events.append, clock=clock)

    assert events == [switch, another] and events[0] is switch and events[1] is another


def test_a_difference_counts_relative_to_the_largest_value() -> None:
    clock = Clock()
    made = [np.array([1000.0, 0.0]), np.array([1000.0, 0.09]), np.array([1000.0, 0.11])]

    seen = stream(
        session(),
        answers(clock, *made, each_s=0.25),
        seconds=0.75,
        on_event=lambda event: None,
        clock=clock,
    )

    assert seen.changed == 1
