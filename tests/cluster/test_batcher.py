"""Requests answered together, on real workers in this process: each gets its own answer, or its own error."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future, wait
from typing import Any

import numpy as np
import pytest

import edgeflow as ef
from edgeflow.errors import (
    ClusterError,
    ConfigError,
    DeadlineExceededError,
    OverloadedError,
    WorkerFailedError,
)
from edgeflow.graph.batch import Batch

torch = pytest.importorskip("torch")

from tests.clusters import slow  # noqa: E402
from tests.images import assert_close, images  # noqa: E402
from tests.waiting import eventually, in_threads  # noqa: E402

TIMEOUT_S = 20.0
SIZE = 4


@pytest.fixture(scope="module")
def batch(module: Any) -> Batch:
    return ef.capture_batch(module, (torch.zeros(1, 3, 32, 32),), size=SIZE)


@pytest.fixture
def session(batch: Batch, workers: Any) -> Iterator[ef.Session]:
    plan = ef.plan(batch.graph, slow([1.0, 0.6]), strategy="coedge")
    assert len(plan.programs) == 3
    with ef.deploy(plan, workers=workers.start(2), timeout_s=TIMEOUT_S, replan=None) as session:
        yield session


def test_each_request_gets_its_own_answer(module: Any, session: ef.Session, batch: Batch) -> None:
    sizes: list[int] = []
    inputs = images(10)
    with ef.Batcher(session, batch, max_wait_s=0.3, on_begin=sizes.append) as batcher:
        futures = [batcher.submit(image) for image in inputs]
        answers = [future.result(TIMEOUT_S) for future in futures]
    assert sizes == [4, 4, 2]
    for image, answer in zip(inputs, answers, strict=True):
        assert_close(answer, module(image))


def test_several_threads_ask_and_their_arguments_may_change(
    module: Any, session: ef.Session, batch: Batch
) -> None:
    inputs = images(8)

    def ask(image: Any) -> Any:
        mine = image.clone()
        future = batcher.submit(mine)
        mine.zero_()
        return future.result(TIMEOUT_S)

    with ef.Batcher(session, batch, max_wait_s=0.02) as batcher:
        answers = in_threads(ask, inputs)
    for image, answer in zip(inputs, answers, strict=True):
        assert_close(answer, module(image))


def test_a_stream_keeps_its_order(module: Any, session: ef.Session, batch: Batch) -> None:
    inputs = images(11)
    with ef.Batcher(session, batch) as batcher:
        answers = list(batcher.stream(inputs, max_in_flight=6))
        with pytest.raises(ValueError, match="negative"):
            batcher.stream(inputs, max_in_flight=-1)
    assert len(answers) == 11
    for image, answer in zip(inputs, answers, strict=True):
        assert_close(answer, module(image))


def test_arguments_that_do_not_fit_reach_nobody_else(module: Any, session: ef.Session, batch: Batch) -> None:
    (image,) = images(1)
    with ef.Batcher(session, batch, max_wait_s=0.05) as batcher:
        good = batcher.submit(image)
        with pytest.raises(ConfigError, match=r"captured for shape \(1, 3, 32, 32\), got \(4, 3, 32, 32\)"):
            batcher.submit(torch.zeros(4, 3, 32, 32))
        with pytest.raises(ConfigError, match="timeout_s must be positive"):
            batcher.submit(image, timeout_s=0.0)
        assert_close(good.result(TIMEOUT_S), module(image))


def test_an_error_reaches_all_of_its_batch_and_nobody_else(
    module: Any, session: ef.Session, batch: Batch, workers: Any
) -> None:
    failures = iter([True])

    def fail_once() -> None:
        if next(failures, False):
            raise RuntimeError("out of luck")

    workers.hooks[0].before_compute = fail_once
    inputs = images(2 * SIZE)
    with ef.Batcher(session, batch, max_wait_s=5.0, max_in_flight=1) as batcher:
        futures = [batcher.submit(image) for image in inputs]
        for future in futures[:SIZE]:
            with pytest.raises(WorkerFailedError, match="raised RuntimeError"):
                future.result(TIMEOUT_S)
        for image, future in zip(inputs[SIZE:], futures[SIZE:], strict=True):
            assert_close(future.result(TIMEOUT_S), module(image))


def test_a_session_that_is_closed_ends_what_is_asked(batch: Batch, session: ef.Session) -> None:
    with ef.Batcher(session, batch, max_wait_s=0.0) as batcher:
        session.close()
        with pytest.raises(ClusterError, match="the session is closed"):
            batcher.run(images(1)[0])


def test_a_batch_goes_on_without_a_worker_that_is_lost(module: Any, batch: Batch, workers: Any) -> None:
    plan = ef.plan(batch.graph, slow([1.0, 0.6]), strategy="coedge")
    computing = threading.Event()
    inputs = images(SIZE)
    with (
        ef.deploy(plan, workers=workers.start(2), timeout_s=TIMEOUT_S) as session,
        ef.Batcher(session, batch, max_wait_s=5.0) as batcher,
    ):
        workers.hooks[1].before_compute = computing.set
        futures = [batcher.submit(image) for image in inputs]
        assert computing.wait(TIMEOUT_S)
        workers.servers[1].stop()
        for image, future in zip(inputs, futures, strict=True):
            assert_close(future.result(TIMEOUT_S), module(image))
        again = [batcher.submit(image) for image in inputs]
        assert_close(again[-1].result(TIMEOUT_S), module(inputs[-1]))


# What the workers do is played from here on: when they answer is what matters.


class Played:
    """A backend whose runs end when they are told to."""

    def __init__(self) -> None:
        self.runs: list[Future[Any]] = []
        self.inputs: list[Any] = []

    def submit(self, x: Any) -> Future[Any]:
        self.inputs.append(np.array(x))
        self.runs.append(Future())
        return self.runs[-1]

    def await_runs(self, count: int) -> None:
        assert eventually(lambda: len(self.runs) >= count), len(self.runs)


@pytest.fixture(scope="module")
def doubling() -> Batch:
    class Double(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * 2

    return ef.capture_batch(Double(), (torch.zeros(1, 2),), size=SIZE)


def value(number: float) -> Any:
    return np.full((1, 2), number, np.float32)


def test_a_lone_request_waits_no_longer_than_it_may_and_sees_no_padding(doubling: Batch) -> None:
    played = Played()
    with ef.Batcher(played, doubling, max_wait_s=0.02) as batcher:
        began_s = time.monotonic()
        future = batcher.submit(value(3))
        played.await_runs(1)
        assert time.monotonic() - began_s >= 0.02
        np.testing.assert_array_equal(played.inputs[0], np.full((SIZE, 2), 3, np.float32))
        played.runs[0].set_result((np.arange(8, dtype=np.float32).reshape(SIZE, 2),))
        assert future.result(TIMEOUT_S).tolist() == [[0.0, 1.0]]


def test_requests_gather_while_batches_are_under_way(doubling: Batch) -> None:
    played = Played()
    with ef.Batcher(played, doubling, max_wait_s=0.0, max_in_flight=1, max_waiting=SIZE) as batcher:
        first = batcher.submit(value(0))
        played.await_runs(1)
        others = [batcher.submit(value(number)) for number in range(1, 5)]
        with pytest.raises(OverloadedError, match="4 requests wait already, at most 4 may"):
            batcher.submit(value(9))
        played.runs[0].set_result((played.inputs[0] * 2,))
        assert first.result(TIMEOUT_S).tolist() == [[0.0, 0.0]]
        played.await_runs(2)
        assert played.inputs[1][:, 0].tolist() == [1, 2, 3, 4]
        played.runs[1].set_result((played.inputs[1] * 2,))
        assert [future.result(TIMEOUT_S)[0, 0].item() for future in others] == [2, 4, 6, 8]


def test_those_that_leave_are_not_waited_for_and_the_last_one_ends_the_run(doubling: Batch) -> None:
    played = Played()
    with ef.Batcher(played, doubling, max_wait_s=60.0, max_in_flight=1) as batcher:
        futures = [batcher.submit(value(number)) for number in range(SIZE)]
        played.await_runs(1)
        waiting = batcher.submit(value(9))
        assert waiting.cancel()
        for future in futures[:-1]:
            assert future.cancel()
        assert not played.runs[0].cancelled()
        assert futures[-1].cancel()
        assert played.runs[0].cancelled()
        done, _ = wait([waiting, *futures], TIMEOUT_S)
        assert len(done) == 5
        with pytest.raises(CancelledError):
            waiting.result()
        # There is room again, and the one that left is in no batch.
        again = [batcher.submit(value(number)) for number in range(SIZE)]
        played.await_runs(2)
        assert played.inputs[1][:, 0].tolist() == [0, 1, 2, 3]
        again[1].cancel()
        played.runs[1].set_result((played.inputs[1] * 2,))
        assert [again[index].result(TIMEOUT_S)[0, 0].item() for index in (0, 2, 3)] == [0, 4, 6]


def test_each_request_has_its_own_deadline(doubling: Batch) -> None:
    played = Played()
    with ef.Batcher(played, doubling, max_wait_s=60.0, max_in_flight=1) as batcher:
        short = batcher.submit(value(1), timeout_s=0.2)
        patient = [batcher.submit(value(number)) for number in range(2, 5)]
        played.await_runs(1)
        with pytest.raises(DeadlineExceededError, match="ran out of time before its batch was answered"):
            short.result(TIMEOUT_S)
        with pytest.raises(DeadlineExceededError, match="ran out of time before its batch began"):
            batcher.run(value(7), timeout_s=0.01)
        played.runs[0].set_result((played.inputs[0] * 2,))
        assert [future.result(TIMEOUT_S)[0, 0].item() for future in patient] == [4, 6, 8]
        late = [batcher.submit(value(number), timeout_s=0.2) for number in range(SIZE)]
        played.await_runs(2)
        for future in late:
            assert isinstance(future.exception(TIMEOUT_S), DeadlineExceededError)
        assert eventually(played.runs[1].cancelled)


def test_closing_fails_what_waits_and_what_is_under_way(doubling: Batch) -> None:
    played = Played()
    batcher = ef.Batcher(played, doubling, max_wait_s=60.0)
    futures = [batcher.submit(value(number)) for number in range(SIZE + 1)]
    played.await_runs(1)
    batcher.close()
    batcher.close()
    for future in futures:
        with pytest.raises(ClusterError, match="the batcher is closed"):
            future.result(TIMEOUT_S)
    assert played.runs[0].cancelled()
    with pytest.raises(ClusterError, match="the batcher is closed"):
        batcher.submit(value(1))


def test_a_backend_that_refuses_fails_that_batch_and_the_next_is_tried(doubling: Batch) -> None:
    class Refusing(Played):
        def submit(self, x: Any) -> Future[Any]:
            future = super().submit(x)
            if len(self.runs) == 1:
                raise OverloadedError("too much")
            return future

    played = Refusing()
    with ef.Batcher(played, doubling, max_wait_s=0.0, max_in_flight=1) as batcher:
        with pytest.raises(OverloadedError, match="too much"):
            batcher.run(value(1))
        future = batcher.submit(value(2))
        played.await_runs(2)
        played.runs[1].set_result((played.inputs[1] * 2,))
        assert future.result(TIMEOUT_S)[0, 0].item() == 4
