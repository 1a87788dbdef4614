"""Futures of requests: who waits, who cancels, and in which order answers come."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

import pytest

import edgeflow as ef
from edgeflow.coordinator.answers import (
    answer_of,
    arguments_of,
    check_timeout,
    default_in_flight,
    in_order,
    settle,
    settle_answer,
)
from edgeflow.errors import ConfigError, WorkerFailedError
from tests.clusters import slow
from tests.unit.plan.tiny import mlp


@pytest.mark.parametrize("timeout_s", [0, 0.0, -1.0, float("-inf")])
def test_a_time_that_is_not_positive_is_refused(timeout_s: float) -> None:
    with pytest.raises(ConfigError, match="timeout_s must be positive, got"):
        check_timeout(timeout_s)


def test_no_limit_and_any_positive_time_are_fine() -> None:
    check_timeout(None)
    check_timeout(1e-9)


def test_an_answer_or_what_the_request_failed_with() -> None:
    good: Future[int] = Future()
    good.set_result(3)
    assert answer_of(good) == 3
    bad: Future[int] = Future()
    bad.set_exception(WorkerFailedError("boom"))
    with pytest.raises(WorkerFailedError, match="boom"):
        answer_of(bad)


def test_a_request_is_cancelled_when_waiting_is_interrupted() -> None:
    class Interrupted:
        def result(self, future: Future[Any]) -> Any:
            raise KeyboardInterrupt

    future: Future[int] = Future()
    with pytest.raises(KeyboardInterrupt):
        answer_of(future, Interrupted())  # type: ignore[arg-type]
    assert future.cancelled()


@pytest.mark.parametrize(
    ("item", "expected"),
    [(5, ((5,), {})), ((1, 2), ((1, 2), {})), ({"x": 1}, ((), {"x": 1})), ([1, 2], (([1, 2],), {}))],
)
def test_what_an_item_of_a_stream_stands_for(item: Any, expected: Any) -> None:
    assert arguments_of(item) == expected


class Backend:
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.futures: list[Future[Any]] = []
        self.asked: list[tuple[Any, ...]] = []

    def submit(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Future[Any]:
        self.asked.append(args)
        self.futures.append(Future())
        return self.futures[-1]


def test_answers_come_in_order_with_as_many_under_way_as_may_be() -> None:
    backend = Backend()
    under_way: list[int] = []

    def submit(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Future[Any]:
        future = backend.submit(args, kwargs)
        under_way.append(sum(not f.done() for f in backend.futures))
        if len(backend.futures) % 3 == 0:  # the answers of three come at once, the last one first
            for index in (-1, -2, -3):
                backend.futures[index].set_result(backend.asked[index][0] * 10)
        return future

    assert list(in_order(range(9), submit, 3)) == [0, 10, 20, 30, 40, 50, 60, 70, 80]
    assert max(under_way) == 3


def test_leaving_a_stream_cancels_what_is_under_way() -> None:
    backend = Backend()

    def submit(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Future[Any]:
        future = backend.submit(args, kwargs)
        if args == (0,):
            future.set_result("first")
        return future

    answers = in_order(range(100), submit, 3)
    assert next(answers) == "first"
    answers.close()
    assert len(backend.futures) == 3
    assert [future.cancelled() for future in backend.futures] == [False, True, True]


def test_a_request_that_is_refused_cancels_those_before_it() -> None:
    backend = Backend()

    def submit(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Future[Any]:
        if args == (2,):
            raise ConfigError("no")
        return backend.submit(args, kwargs)

    with pytest.raises(ConfigError, match="no"):
        list(in_order(range(5), submit, 4))
    assert [future.cancelled() for future in backend.futures] == [True, True]


def test_a_future_is_settled_once_and_a_cancelled_one_not_at_all() -> None:
    future: Future[int] = Future()
    settle(future, result=1)
    settle(future, result=2)
    settle(future, error=KeyError())
    assert future.result() == 1
    gone: Future[int] = Future()
    gone.cancel()
    settle(gone, result=1)
    assert gone.cancelled()
    settle(None, result=1)


def test_an_answer_that_does_not_fit_the_graph_fails_the_request() -> None:
    future: Future[Any] = Future()
    settle_answer(future, mlp(), {})
    assert future.exception() is not None


def test_a_plan_of_many_ways_takes_more_at_once() -> None:
    graph = mlp()
    single = ef.plan(graph, slow([1.0]), strategy="single")
    assert default_in_flight(single) == 4
