"""Virtual time: threads of which one runs at a time, and a clock that jumps when all of them wait.

    threads = VirtualThreads()
    with session(..., threads=threads) as session:      # whole sessions, fail-over included, in milliseconds
        threads.sleep(3600.0)

Threads are real, so code runs as it does in production; but a thread runs only while it holds the baton, and
hands it on when it waits for an event, a queue, a lock, another thread or the time. When no thread can run,
the clock jumps to the earliest deadline. So a test is deterministic, and takes no longer than its computing.
Whatever waits must wait by this object: a thread that blocks elsewhere blocks all of them.

The thread that makes the object is the first of its threads.
"""

from __future__ import annotations

import heapq
import itertools
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Final, TypeVar

from edgeflow.threads import Empty, Event, Lock, Queue, Thread

T = TypeVar("T")

#: Of real time, after which a thread that should have got the baton says that another one blocks elsewhere.
STUCK_S: Final = 60.0


class DeadlockError(AssertionError):
    """Every thread waits, and none of them for the time."""


class _Task:
    """A thread: it runs while it holds the baton."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.baton = threading.Semaphore(0)
        #: Counts its waits, so that a wake-up for an earlier one is told apart.
        self.wait = 0
        self.is_waiting = False
        self.is_timed_out = False
        self.error: BaseException | None = None


class VirtualThreads:
    """Implements `edgeflow.threads.Threads`.

    Args:
        start_s: The time at first.
    """

    def __init__(self, start_s: float = 0.0) -> None:
        self._now_s = start_s
        self._ready: deque[_Task] = deque()
        self._timers: list[tuple[float, int, _Task, int]] = []
        self._order = itertools.count()
        self._local = threading.local()
        self._tasks: set[_Task] = set()
        self._main = _Task("main")
        self._adopt(self._main)

    def now(self) -> float:
        return self._now_s

    def sleep(self, seconds: float) -> None:
        self.block(seconds, lambda task, wait: None)

    def lock(self) -> Lock:
        return _Lock(self)

    def event(self) -> Event:
        return _Event(self)

    def queue(self) -> Queue[Any]:
        return _Queue(self)

    def start(self, function: Callable[[], None], *, name: str) -> Thread:
        task = _Task(name)
        self._tasks.add(task)
        started = _Thread(self, task)

        def run() -> None:
            task.baton.acquire()
            self._local.task = task
            try:
                function()
            finally:
                self._tasks.discard(task)
                started.ended.set()
                self._hand_on()

        threading.Thread(target=run, name=name, daemon=True).start()
        self._ready.append(task)
        return started

    def result(self, future: Future[T]) -> T:
        done = self.event()
        future.add_done_callback(lambda _: done.set())
        done.wait()
        return future.result()

    # The baton.

    def current(self) -> _Task:
        task: _Task | None = getattr(self._local, "task", None)
        if task is None:
            raise AssertionError(f"{threading.current_thread().name} is no thread of this virtual time")
        return task

    def wake(self, task: _Task, wait: int) -> None:
        """Let a task go on whose wait of that number is not over."""
        if task.is_waiting and task.wait == wait:
            task.is_waiting = False
            self._ready.append(task)

    def block(self, timeout: float | None, register: Callable[[_Task, int], None]) -> bool:
        """Wait; return whether the task was woken before the time was up."""
        task = self.current()
        task.wait += 1
        register(task, task.wait)
        return self._wait(task, timeout)

    def _wait(self, task: _Task, timeout: float | None) -> bool:
        task.is_waiting, task.is_timed_out = True, False
        if timeout is not None:
            heapq.heappush(
                self._timers, (self._now_s + max(0.0, timeout), next(self._order), task, task.wait)
            )
        self._hand_on()
        if not task.baton.acquire(timeout=STUCK_S):
            raise AssertionError(f"{task.name} got no baton in {STUCK_S:.0f} s: {self._state()}")
        if task.error is not None:
            error, task.error = task.error, None
            raise error
        return not task.is_timed_out

    def _hand_on(self) -> None:
        """Give the baton to the next thread; move the clock if all of them wait."""
        while not self._ready:
            if not self._timers:
                if not self._tasks:
                    return
                # The first thread is told; it is the test.
                self._main.error = DeadlockError(f"every thread waits for ever: {self._state()}")
                self._main.is_waiting = False
                self._ready.append(self._main)
                break
            time_s, _, task, wait = heapq.heappop(self._timers)
            if task.is_waiting and task.wait == wait:
                self._now_s = max(self._now_s, time_s)
                task.is_waiting, task.is_timed_out = False, True
                self._ready.append(task)
        self._ready.popleft().baton.release()

    def _adopt(self, task: _Task) -> None:
        self._local.task = task
        self._tasks.add(task)

    def _state(self) -> str:
        return ", ".join(
            f"{task.name} {'waits' if task.is_waiting else 'runs or is ready'}"
            for task in sorted(self._tasks, key=lambda task: task.name)
        )


class _Event:
    def __init__(self, threads: VirtualThreads) -> None:
        self._threads = threads
        self._is_set = False
        self._waiters: list[tuple[_Task, int]] = []

    def set(self) -> None:
        self._is_set = True
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            self._threads.wake(*waiter)

    def clear(self) -> None:
        self._is_set = False

    def is_set(self) -> bool:
        return self._is_set

    def wait(self, timeout: float | None = None) -> bool:
        if self._is_set:
            return True
        return self._threads.block(timeout, lambda task, wait: self._waiters.append((task, wait)))


class _Queue:
    def __init__(self, threads: VirtualThreads) -> None:
        self._threads = threads
        self._items: deque[Any] = deque()
        self._filled = _Event(threads)

    def put(self, item: Any) -> None:
        self._items.append(item)
        self._filled.set()

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        deadline_s = None if timeout is None else self._threads.now() + timeout
        while not self._items:
            self._filled.clear()
            left_s = None if deadline_s is None else deadline_s - self._threads.now()
            if not block or (left_s is not None and left_s <= 0):
                raise Empty
            self._filled.wait(left_s)
        return self._items.popleft()


class _Lock:
    """Reentrant."""

    def __init__(self, threads: VirtualThreads) -> None:
        self._threads = threads
        self._owner: _Task | None = None
        self._depth = 0
        self._freed = _Event(threads)

    def __enter__(self) -> bool:
        task = self._threads.current()
        while self._owner not in (None, task):
            self._freed.clear()
            self._freed.wait()
        self._owner = task
        self._depth += 1
        return True

    def __exit__(self, *exc_info: object) -> None:
        self._depth -= 1
        if not self._depth:
            self._owner = None
            self._freed.set()


class _Thread:
    def __init__(self, threads: VirtualThreads, task: _Task) -> None:
        self._threads = threads
        self._task = task
        self.ended = _Event(threads)

    def join(self) -> None:
        if self._threads.current() is not self._task:
            self.ended.wait()
