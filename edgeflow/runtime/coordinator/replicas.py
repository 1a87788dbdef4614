"""A deployed plan of several ways to answer: a session each, and every request to the one expected first."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Protocol, Self

import msgspec

from edgeflow.balancer.dispatch import Dispatcher
from edgeflow.plan import Plan
from edgeflow.runtime.coordinator.processes import LocalWorkers
from edgeflow.runtime.coordinator.session import Session, arguments_of
from edgeflow.telemetry.trace import TraceEvent


class AnySession(Protocol):
    """What `edgeflow.deploy` returns: a `Session`, or a `ReplicatedSession` for a plan of several ways."""

    plan: Plan

    def run(self, *args: Any, **kwargs: Any) -> Any: ...

    def submit(self, *args: Any, **kwargs: Any) -> Future[Any]: ...

    def stream(self, items: Iterable[Any]) -> Generator[Any, None, None]: ...

    def trace(self) -> list[TraceEvent]: ...

    def peak_memory_bytes(self) -> dict[int, int]: ...

    @property
    def worker_pids(self) -> dict[int, int]: ...

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class ReplicatedSession:
    """What `edgeflow.deploy` returns for a plan with replicas; it is used as a `Session` is.

    Attributes:
        plan: What was deployed.
        ways: The sessions of its ways.
    """

    def __init__(
        self,
        plan: Plan,
        open_way: Callable[[Plan], Session],
        *,
        expected_s: Iterable[float],
        processes: LocalWorkers | None = None,
    ) -> None:
        self.plan = plan
        self._processes = processes
        self._lock = threading.Lock()
        self._dispatcher = Dispatcher(tuple(expected_s))
        with ExitStack() as stack:
            self.ways = tuple(stack.enter_context(open_way(way)) for way in plan.ways)
            self._open = stack.pop_all()

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """Answer one request; see `Session.run`."""
        way = self._begin()
        started_s = time.monotonic()
        try:
            answer = self.ways[way].run(*args, **kwargs)
        except BaseException:
            self._end(way, None)
            raise
        self._end(way, time.monotonic() - started_s)
        return answer

    def submit(self, *args: Any, **kwargs: Any) -> Future[Any]:
        """Begin a request and return at once; see `Session.submit`."""
        way = self._begin()
        started_s = time.monotonic()
        try:
            future = self.ways[way].submit(*args, **kwargs)
        except BaseException:
            self._end(way, None)
            raise

        def done(future: Future[Any]) -> None:
            failed = future.cancelled() or future.exception() is not None
            self._end(way, None if failed else time.monotonic() - started_s)

        future.add_done_callback(done)
        return future

    def stream(self, items: Iterable[Any], *, max_in_flight: int = 0) -> Generator[Any, None, None]:
        """Answer requests in order, several under way at a time; see `Session.stream`.

        Args:
            max_in_flight: How many may be under way; by default two for each way.
        """
        limit = max_in_flight or 2 * len(self.ways)
        if limit < 1:
            raise ValueError(f"max_in_flight must be at least 1, got {max_in_flight}")
        pending: deque[Future[Any]] = deque()
        try:
            for item in items:
                args, kwargs = arguments_of(item)
                pending.append(self.submit(*args, **kwargs))
                if len(pending) == limit:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()

    def trace(self) -> list[TraceEvent]:
        """Return what every rank did and when; see `Session.trace`.

        Requests of the ways are told apart: request r of way w has the number r x (number of ways) + w. Times
        are since the way's own session began.
        """
        events = [
            msgspec.structs.replace(event, request=event.request * len(self.ways) + index)
            for index, way in enumerate(self.ways)
            for event in way.trace()
        ]
        return sorted(events, key=lambda event: (event.start_s, event.rank))

    def peak_memory_bytes(self) -> dict[int, int]:
        """Rank -> the most memory that the worker's process has had resident."""
        found: dict[int, int] = {}
        for way in self.ways:
            found |= way.peak_memory_bytes()
        return found

    @property
    def is_ready(self) -> bool:
        """Whether every way takes requests."""
        return all(way.is_ready for way in self.ways)

    @property
    def worker_pids(self) -> dict[int, int]:
        """Rank -> process id of the workers that were started here."""
        return {} if self._processes is None else self._processes.pids

    def close(self) -> None:
        """Take the plan off its workers, and end those that were started for it; may be called twice."""
        self._open.close()
        if self._processes is not None:
            self._processes.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _begin(self) -> int:
        with self._lock:
            return self._dispatcher.begin()

    def _end(self, way: int, seconds: float | None) -> None:
        with self._lock:
            self._dispatcher.end(way, seconds)
