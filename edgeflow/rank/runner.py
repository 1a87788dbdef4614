"""The thread that runs the requests of a rank: it does what it is told, in order, and decides nothing.

Programs are generators (`edgeflow.rank.interpreter.run`), so many requests can be under way on one
thread: each runs until it waits for a frame. The callbacks are made from the thread; they must not block.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

from edgeflow.graph.ir import Array
from edgeflow.rank.interpreter import Running
from edgeflow.rank.schedule import FrameKey
from edgeflow.threads import SYSTEM, Empty, Queue, Threads

logger = logging.getLogger(__name__)

#: A request: its epoch and its id.
RequestKey = tuple[int, int]


class RunnerCallbacks(Protocol):
    """What becomes of a request that runs."""

    def on_wait(self, key: RequestKey, frames: tuple[FrameKey, ...]) -> None:
        """It needs one of these frames to go on."""

    def on_finish(self, key: RequestKey, outputs: dict[str, Array]) -> None:
        """It has come to its end."""

    def on_error(self, key: RequestKey, error: Exception) -> None:
        """It has raised."""


class Runner:
    """One thread that runs generators.

    Args:
        name: Of the thread.
        tick: Called from the thread after each job; returns how many seconds may pass until the next call,
            or None for no limit.
    """

    def __init__(
        self,
        name: str,
        callbacks: RunnerCallbacks,
        *,
        threads: Threads = SYSTEM,
        tick: Callable[[], float | None] = lambda: None,
    ) -> None:
        self._callbacks = callbacks
        self._tick = tick
        self._jobs: Queue[Callable[[], None] | None] = threads.queue()
        self._running: dict[RequestKey, Running] = {}
        self._thread = threads.start(self._loop, name=name)

    def start(self, key: RequestKey, running: Running) -> None:
        """Run a new request until it first waits."""

        def job() -> None:
            self._running[key] = running
            self._advance(key, None)

        self._jobs.put(job)

    def resume(self, key: RequestKey, frame: FrameKey, array: Array) -> None:
        """Give a request a frame that it waits for."""
        self._jobs.put(lambda: self._advance(key, (frame, array)))

    def drop(self, key: RequestKey) -> None:
        """Forget a request and free what it holds."""

        def job() -> None:
            running = self._running.pop(key, None)
            if running is not None:
                running.close()

        self._jobs.put(job)

    def call(self, function: Callable[[], None]) -> None:
        """Do something else on the thread, after what is queued; it must not raise."""
        self._jobs.put(function)

    def close(self) -> None:
        """Finish what is queued, forget every request, end the thread."""
        self._jobs.put(None)
        self._thread.join()

    def _loop(self) -> None:
        wait_s: float | None = None
        while True:
            try:
                job = self._jobs.get(timeout=wait_s)
            except Empty:
                pass
            else:
                if job is None:
                    break
                job()
                del job  # it may hold a frame, which must not stay in memory while this thread waits
            wait_s = self._tick()
        for running in self._running.values():
            running.close()
        self._running.clear()

    def _advance(self, key: RequestKey, arrived: tuple[FrameKey, Array] | None) -> None:
        running = self._running.get(key)
        if running is None:
            return
        try:
            frames = running.send(arrived)  # type: ignore[arg-type]  # None starts a generator
        except StopIteration as stop:
            del self._running[key]
            self._callbacks.on_finish(key, stop.value)
        except Exception as error:
            del self._running[key]
            logger.debug("request.failed", exc_info=True, extra={"epoch": key[0], "request": key[1]})
            self._callbacks.on_error(key, error)
        else:
            self._callbacks.on_wait(key, frames)
