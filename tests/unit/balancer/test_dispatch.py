"""Requests go where they are expected to be done first."""

from __future__ import annotations

import heapq

import pytest

from edgeflow.balancer.dispatch import Dispatcher


def test_requests_one_at_a_time_all_go_the_fastest_way() -> None:
    dispatcher = Dispatcher([3.0, 1.0, 2.0])

    ways = []
    for _ in range(5):
        ways.append(dispatcher.begin())
        dispatcher.end(ways[-1], 1.0)

    assert ways == [1] * 5


def test_many_at_once_are_shared_out_by_speed() -> None:
    dispatcher = Dispatcher([1.0, 2.0, 4.0])

    ways = [dispatcher.begin() for _ in range(70)]

    assert [ways.count(way) for way in range(3)] == pytest.approx([40, 20, 10], abs=1)


def test_a_way_that_became_slow_is_left_and_found_again() -> None:
    """Two devices of which one slows down to a tenth: served in turn, requests move to the other."""
    dispatcher = Dispatcher([1.0, 1.0])
    first = _served(dispatcher, [1.0, 1.0])
    slow = _served(dispatcher, [10.0, 1.0])

    assert first == pytest.approx([100, 100], abs=4)
    assert slow[0] < 40


def _served(dispatcher: Dispatcher, seconds: list[float], *, requests: int = 200) -> list[int]:
    """Serve with four under way; return how many went each way. Each way does one request at a time."""
    now, counts = 0.0, [0] * len(seconds)
    free = [0.0] * len(seconds)
    under_way: list[tuple[float, int, float]] = []
    for number in range(requests + 4):
        if number >= 4:
            now, way, begun = heapq.heappop(under_way)
            dispatcher.end(way, now - begun)
        if number < requests:
            way = dispatcher.begin()
            counts[way] += 1
            free[way] = max(free[way], now) + seconds[way]
            heapq.heappush(under_way, (free[way], way, now))
    return counts


def test_a_request_without_an_answer_teaches_nothing() -> None:
    dispatcher = Dispatcher([1.0, 5.0])
    dispatcher.end(dispatcher.begin(), None)

    assert dispatcher.expected_s == (1.0, 5.0)
    assert dispatcher.begin() == 0


@pytest.mark.parametrize("expected_s", [[], [0.0], [1.0, float("nan")], [float("inf")]])
def test_predictions_that_say_nothing_are_refused(expected_s: list[float]) -> None:
    with pytest.raises(ValueError, match="positive and finite"):
        Dispatcher(expected_s)
