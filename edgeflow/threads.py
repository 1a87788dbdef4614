"""Time, threads, and what threads wait for: injected, so that tests run whole sessions in virtual time.

Production uses `SYSTEM`. `edgeflow.testing.virtual` implements the same protocol with a clock that jumps to
the next deadline whenever every thread waits.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager
from queue import Empty, SimpleQueue
from typing import Any, Final, Protocol, TypeVar

__all__ = ["SYSTEM", "Crew", "Empty", "Event", "Lock", "Queue", "SystemThreads", "Thread", "Threads"]

T = TypeVar("T")

#: Reentrant, for ``with`` statements.
Lock = AbstractContextManager[Any]


class Event(Protocol):
    """As `threading.Event`."""

    def set(self) -> None: ...
    def clear(self) -> None: ...
    def is_set(self) -> bool: ...
    def wait(self, timeout: float | None = None) -> bool: ...


class Queue(Protocol[T]):
    """As `queue.SimpleQueue`: ``get`` raises `Empty` when ``timeout`` has passed."""

    def put(self, item: T) -> None: ...
    def get(self, block: bool = True, timeout: float | None = None) -> T: ...


class Thread(Protocol):
    """A thread that has been started."""

    def join(self) -> None:
        """Wait for its end; returns at once on the thread itself."""


class Threads(Protocol):
    """Where a component gets its time and its threads from."""

    def now(self) -> float:
        """Seconds on a monotonic clock."""

    def sleep(self, seconds: float) -> None: ...

    def lock(self) -> Lock: ...

    def event(self) -> Event: ...

    def queue(self) -> Queue[Any]: ...

    def start(self, function: Callable[[], None], *, name: str) -> Thread:
        """Run a function on a thread of its own."""

    def result(self, future: Future[T]) -> T:
        """Wait for a future's result."""


class _SystemThread:
    def __init__(self, function: Callable[[], None], name: str) -> None:
        self._thread = threading.Thread(target=function, name=name, daemon=True)
        self._thread.start()

    def join(self) -> None:
        if self._thread is not threading.current_thread():
            self._thread.join()


class SystemThreads:
    """The system's clock and threads."""

    now = staticmethod(time.monotonic)
    sleep = staticmethod(time.sleep)
    lock = staticmethod(threading.RLock)
    event = staticmethod(threading.Event)

    def queue(self) -> Queue[Any]:
        return SimpleQueue()

    def start(self, function: Callable[[], None], *, name: str) -> Thread:
        return _SystemThread(function, name)

    def result(self, future: Future[T]) -> T:
        return future.result()


SYSTEM: Final[Threads] = SystemThreads()


def side_by_side(threads: Threads, functions: list[Callable[[], None]], *, name: str) -> None:
    """Run functions at the same time, each on a thread of its own, and wait for all of them."""
    for thread in [threads.start(function, name=name) for function in functions]:
        thread.join()


class Crew:
    """Functions that run on threads of their own, and are waited for together."""

    def __init__(self, threads: Threads, name: str) -> None:
        self._threads = threads
        self._name = name
        self._lock = threads.lock()
        self._numbers = itertools.count()
        self._running: dict[int, Thread | None] = {}

    def start(self, function: Callable[[], None]) -> None:
        number = next(self._numbers)

        def run() -> None:
            try:
                function()
            finally:
                with self._lock:
                    self._running.pop(number, None)

        with self._lock:
            self._running[number] = None
        thread = self._threads.start(run, name=self._name)
        with self._lock:
            if number in self._running:
                self._running[number] = thread

    def join(self) -> None:
        """Wait for all that were started."""
        with self._lock:
            running = [thread for thread in self._running.values() if thread is not None]
        for thread in running:
            thread.join()
