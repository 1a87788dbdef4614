"""Requests that have no answer yet: futures, inputs, and the order of events; with a fake client rank."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any, cast

import numpy as np
import pytest

from edgeflow.coordinator import ledger as led
from edgeflow.coordinator.client_rank import ClientRank
from edgeflow.coordinator.epoch import Epoch
from edgeflow.coordinator.pending import Pending
from edgeflow.errors import (
    ClusterError,
    ConfigError,
    DeadlineExceededError,
    OverloadedError,
    WorkerFailedError,
    WorkerUnreachableError,
)
from edgeflow.testing.virtual import VirtualThreads
from tests.unit.plan.tiny import mlp

X = np.zeros((2, 4), np.float32)


class Client:
    """Writes down what it is told; does what is to be done on its thread when the test says so."""

    def __init__(self) -> None:
        self.begun: list[tuple[int, int, float]] = []
        self.cancelled: list[tuple[int, int]] = []
        self.jobs: list[Callable[[], None]] = []
        self.on_begin: Callable[[int, int], None] = lambda way, request_id: None

    def begin(self, way: int, request_id: int, inputs: Any, deadline_s: float) -> None:
        self.begun.append((way, request_id, deadline_s))
        self.on_begin(way, request_id)

    def cancel(self, way: int, request_id: int) -> None:
        self.cancelled.append((way, request_id))

    def call(self, function: Callable[[], None]) -> None:
        self.jobs.append(function)

    def work(self) -> None:
        jobs, self.jobs = self.jobs, []
        for job in jobs:
            job()


class World:
    def __init__(self) -> None:
        self.threads = VirtualThreads(start_s=10.0)
        self.client = Client()
        self.drained: list[int] = []
        graph = self.graph = mlp()

        class Way:
            class plan:
                pass

        Way.plan.graph = graph  # type: ignore[attr-defined]
        self.pending = Pending(
            led.Ledger(timeout_s=5.0, max_in_flight=2, max_waiting=2),
            cast("dict[int, Epoch]", {1: Way, 2: Way}),
            cast(ClientRank, self.client),
            lock=self.threads.lock(),
            threads=self.threads,
            on_drained=self.drained.append,
        )
        self.pending.handle(led.Opened({1: 1.0}))

    def submit(self, timeout_s: float | None = None) -> Future[Any]:
        return self.pending.submit({"x": X}, timeout_s)

    def answer(self, request_id: int, value: float = 1.0, *, way: int = 1) -> None:
        shape = self.graph.specs[self.graph.outputs[0]].shape
        outputs = {self.graph.outputs[0]: np.full(shape, value, np.float32)}
        self.pending.answered(way, request_id, outputs, 0.5)

    def check_nothing_is_held(self) -> None:
        assert not self.pending._inputs and not self.pending._futures and not self.pending._outputs


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made


def test_a_request_begins_with_its_deadline_and_is_answered_on_the_clients_thread(world: World) -> None:
    """Callbacks of a future are foreign code: they must not run while the lock is held."""
    future = world.submit(timeout_s=3.0)
    assert world.client.begun == [(1, 1, 13.0)]
    world.client.work()
    world.answer(1, 7.0)
    assert not future.done()
    world.client.work()
    assert np.all(np.asarray(future.result()) == 7.0)
    world.check_nothing_is_held()


def test_ids_are_given_in_the_order_of_submission(world: World) -> None:
    for _ in range(4):
        world.submit()
    assert [request_id for _, request_id, _ in world.client.begun] == [1, 2]
    world.answer(2)
    world.answer(1)
    assert [request_id for _, request_id, _ in world.client.begun] == [1, 2, 3, 4]


def test_a_request_that_is_refused_leaves_nothing_behind(world: World) -> None:
    futures = [world.submit() for _ in range(4)]
    with pytest.raises(OverloadedError, match="2 requests wait already"):
        world.submit()
    with pytest.raises(ConfigError, match="timeout_s must be positive"):
        world.submit(timeout_s=0.0)
    assert len(world.pending._futures) == len(world.pending._inputs) == 4
    assert not any(future.done() for future in futures)


def test_a_cancelled_request_is_cancelled_on_its_way_and_forgotten(world: World) -> None:
    futures = [world.submit() for _ in range(3)]
    assert futures[0].cancel()
    assert world.client.cancelled == [(1, 1)]
    assert [request_id for _, request_id, _ in world.client.begun] == [1, 2, 3]  # there is room now
    assert futures[1].cancel() and futures[2].cancel()
    world.check_nothing_is_held()
    world.answer(1)  # too late
    world.client.work()
    world.check_nothing_is_held()


def test_a_failure_of_the_request_itself_is_final(world: World) -> None:
    future = world.submit()
    world.pending.handle(led.Failed(1, 1, WorkerFailedError("boom")))
    assert not future.done()
    world.client.work()
    with pytest.raises(WorkerFailedError, match="boom"):
        future.result()
    world.check_nothing_is_held()


def test_a_request_of_a_way_that_is_lost_begins_again_elsewhere_and_is_answered_once(world: World) -> None:
    future = world.submit()
    world.pending.handle(led.WayLost(1, WorkerUnreachableError("gone")))
    world.pending.handle(led.Opened({2: 1.0}))
    assert [(way, request_id) for way, request_id, _ in world.client.begun] == [(1, 1), (2, 1)]
    world.answer(1, 5.0, way=1)  # of the lost way: too late
    world.answer(1, 6.0, way=2)
    world.client.work()
    assert np.all(np.asarray(future.result()) == 6.0)
    world.check_nothing_is_held()


def test_events_that_follow_from_an_event_are_handled_after_it(world: World) -> None:
    """A client may say at once that it does not take a request."""
    failures = iter([WorkerUnreachableError("refused")])

    def refuse(way: int, request_id: int) -> None:
        error = next(failures, None)
        if error is not None:
            world.pending.handle(led.Failed(way, request_id, error))

    world.client.on_begin = refuse
    future = world.submit()
    assert [request_id for _, request_id, _ in world.client.begun] == [1, 1]
    world.answer(1)
    world.client.work()
    assert future.done()


def test_waiting_requests_run_out_of_time(world: World) -> None:
    world.pending.handle(led.WayLost(1, WorkerUnreachableError("gone")))
    future = world.submit(timeout_s=2.0)
    world.threads.sleep(2.5)
    world.pending.handle(led.Tick())
    world.client.work()
    with pytest.raises(DeadlineExceededError, match="ran out of time before any worker had room"):
        future.result()
    world.check_nothing_is_held()


def test_closing_fails_everything_and_refuses_what_comes(world: World) -> None:
    futures = [world.submit() for _ in range(3)]
    world.pending.handle(led.Closed(ClusterError("the session is closed")))
    world.client.work()
    for future in futures:
        with pytest.raises(ClusterError, match="closed"):
            future.result()
    with pytest.raises(ClusterError, match="closed"):
        world.submit()
    assert world.client.cancelled == [(1, 1), (1, 2)]
    world.check_nothing_is_held()


def test_a_way_that_has_drained_is_told(world: World) -> None:
    world.submit()
    world.pending.handle(led.Opened({2: 1.0}))
    assert world.drained == []
    world.answer(1)
    assert world.drained == [1]
