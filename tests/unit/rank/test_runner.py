"""The thread that runs requests: in the order that it is told, each until it waits, ends or raises."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Generator, Iterator
from typing import Any

import numpy as np
import pytest

from edgeflow.errors import WorkerFailedError
from edgeflow.graph.ir import Array
from edgeflow.rank.runner import RequestKey, Runner
from edgeflow.rank.schedule import FrameKey
from edgeflow.testing.virtual import VirtualThreads

A, B = FrameKey(1, 1), FrameKey(2, 2)


class Heard:
    """What becomes of requests, in order."""

    def __init__(self) -> None:
        self.items: list[tuple[Any, ...]] = []

    def on_wait(self, key: RequestKey, frames: tuple[FrameKey, ...]) -> None:
        self.items.append(("wait", key, frames))

    def on_finish(self, key: RequestKey, outputs: dict[str, Array]) -> None:
        self.items.append(("finish", key, outputs))

    def on_error(self, key: RequestKey, error: Exception) -> None:
        self.items.append(("error", key, str(error)))


class World:
    def __init__(self, **options: Any) -> None:
        self.threads = VirtualThreads()
        self.heard = Heard()
        self.runner = Runner("runs", self.heard, threads=self.threads, **options)
        #: Requests whose generator was closed before its end.
        self.closed: list[str] = []

    def request(
        self, name: str, *waits: FrameKey, error: Exception | None = None
    ) -> Generator[Any, Any, Any]:
        """Wait for frames one after another; the answer is their sum."""
        total = np.zeros(1)
        try:
            for key in waits:
                got, array = yield (key,)
                assert got == key
                total = total + array
            if error is not None:
                raise error
        except GeneratorExit:
            self.closed.append(name)
            raise
        return {name: total}

    def settle(self) -> list[tuple[Any, ...]]:
        """Let the thread do what it was told; return what was heard of since the last time."""
        self.threads.sleep(0.0)
        heard, self.heard.items = self.heard.items, []
        return heard


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.runner.close()


def test_a_request_from_its_start_to_its_end(world: World) -> None:
    world.runner.start((1, 5), world.request("y", A, B))
    assert world.settle() == [("wait", (1, 5), (A,))]
    world.runner.resume((1, 5), A, np.array([2.0]))
    assert world.settle() == [("wait", (1, 5), (B,))]
    world.runner.resume((1, 5), B, np.array([3.0]))
    assert world.settle() == [("finish", (1, 5), {"y": np.array([5.0])})]
    assert world.closed == []


def test_requests_take_turns_in_the_order_in_which_they_are_told(world: World) -> None:
    world.runner.start((1, 1), world.request("a", A))
    world.runner.start((1, 2), world.request("b"))
    world.runner.start((2, 1), world.request("c", B))
    world.runner.resume((1, 1), A, np.ones(1))
    assert [(what, key) for what, key, _ in world.settle()] == [
        ("wait", (1, 1)),
        ("finish", (1, 2)),
        ("wait", (2, 1)),
        ("finish", (1, 1)),
    ]


def test_a_request_that_raises_is_told_and_the_others_go_on(world: World) -> None:
    world.runner.start((1, 1), world.request("a", error=WorkerFailedError("boom")))
    world.runner.start((1, 2), world.request("b", error=KeyError("x")))
    world.runner.start((1, 3), world.request("c"))
    assert [item[:2] for item in world.settle()] == [
        ("error", (1, 1)),
        ("error", (1, 2)),
        ("finish", (1, 3)),
    ]


def test_a_request_that_is_dropped_frees_what_it_holds_and_says_nothing_more(world: World) -> None:
    world.runner.start((1, 1), world.request("a", A))
    world.settle()
    world.runner.drop((1, 1))
    world.runner.resume((1, 1), A, np.ones(1))  # was told before the drop was known
    world.runner.drop((9, 9))
    assert world.settle() == []
    assert world.closed == ["a"]


def test_a_frame_is_not_kept_while_the_thread_waits(world: World) -> None:
    frame = np.ones(3)
    is_alive = weakref.ref(frame)

    def request() -> Generator[Any, Any, Any]:
        yield (A,)
        yield (B,)
        return {}

    world.runner.start((1, 1), request())
    world.runner.resume((1, 1), A, frame)
    del frame
    world.settle()
    gc.collect()
    assert is_alive() is None


def test_other_work_is_done_between_requests(world: World) -> None:
    world.runner.start((1, 1), world.request("a"))
    world.runner.call(lambda: world.heard.items.append(("called",)))
    world.runner.start((1, 2), world.request("b"))
    assert [item[0] for item in world.settle()] == ["finish", "called", "finish"]


def test_closing_does_what_is_queued_and_forgets_the_rest() -> None:
    world = World()
    world.runner.start((1, 1), world.request("a"))
    world.runner.start((1, 2), world.request("b", A))
    world.runner.close()
    assert [item[0] for item in world.heard.items] == ["finish", "wait"]
    assert world.closed == ["b"]


def test_the_tick_is_called_after_each_job_and_when_it_asked_to_be() -> None:
    ticks: list[float] = []

    def tick() -> float | None:
        ticks.append(world.threads.now())
        return 1.5 if len(ticks) < 4 else None

    world = World(tick=tick)
    world.threads.sleep(1.0)
    assert ticks == []  # nothing has asked for it yet
    world.runner.call(lambda: None)
    world.threads.sleep(100.0)
    assert ticks == [1.0, 2.5, 4.0, 5.5]
    world.runner.call(lambda: None)
    world.threads.sleep(0.0)
    assert ticks[4:] == [101.0]
    world.runner.close()
