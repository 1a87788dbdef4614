"""What becomes of each request of a session: events in, instructions out; no socket, clock or thread.

A session has *ways* to answer a request: each is one epoch, one plan on one set of workers
(`edgeflow.coordinator.epoch`). Ways come with a new plan, are retired when the next one comes, and
are lost with a worker. A request waits here until a way takes it, and comes back when that way is lost: it is
then begun again from its inputs, elsewhere, and answered once.

    waiting ──begin──> under way ──> answered
       ^                  │   └────> failed, out of time, abandoned
       └──(way is lost)───┘
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from edgeflow.balancer.dispatch import Dispatcher
from edgeflow.errors import (
    CodecError,
    DeadlineExceededError,
    EdgeflowError,
    OverloadedError,
    StalePlanError,
    WorkerOverloadedError,
    WorkerUnreachableError,
)
from edgeflow.machine import Machine, Word, recorded

#: Times that a request is begun at most: it may be what breaks the workers.
MAX_ATTEMPTS: Final = 8

#: Errors that do not concern the request itself, so that it is begun again.
_ELSEWHERE: Final = (WorkerUnreachableError, WorkerOverloadedError, StalePlanError, CodecError)


class Submitted(Word, frozen=True):
    """A request has come.

    Attributes:
        deadline_s: When its answer is due; None: the session's time after it is first begun.
    """

    request_id: int
    deadline_s: float | None = None


class Opened(Word, frozen=True):
    """A new plan takes requests from now on; all ways before it are retired.

    Attributes:
        ways: Way -> seconds that a request is expected to take there.
    """

    ways: Mapping[int, float]


class WayLost(Word, frozen=True, gc=True):
    """A way answers nothing any more."""

    way: int
    error: EdgeflowError


class NoPlan(Word, frozen=True, gc=True):
    """No other way will open soon; ``error`` says why."""

    error: EdgeflowError


class Answered(Word, frozen=True):
    way: int
    request_id: int
    seconds: float


class Failed(Word, frozen=True, gc=True):
    """A way has not answered a request; the way itself may still be good."""

    way: int
    request_id: int
    error: Exception


class Abandoned(Word, frozen=True):
    """The answer is not wanted any more."""

    request_id: int


class Closed(Word, frozen=True, gc=True):
    """The session ends; what is pending fails with ``error``."""

    error: EdgeflowError


class Tick(Word, frozen=True):
    """Time has passed."""


LedgerEvent = Submitted | Opened | WayLost | NoPlan | Answered | Failed | Abandoned | Closed | Tick


class Begin(Word, frozen=True):
    """Run a request on a way, until ``deadline_s``."""

    way: int
    request_id: int
    deadline_s: float


class Cancel(Word, frozen=True):
    """A way is to stop working on a request."""

    way: int
    request_id: int


class Answer(Word, frozen=True):
    request_id: int


class Fail(Word, frozen=True, gc=True):
    request_id: int
    error: Exception


class Drained(Word, frozen=True):
    """A retired way has nothing left to answer."""

    way: int


LedgerInstruction = Begin | Cancel | Answer | Fail | Drained


@dataclass(slots=True)
class _Request:
    deadline_s: float | None
    way: int | None = None
    num_attempts: int = 0
    error: Exception | None = None


class Ledger(Machine):
    """The requests of one session.

    Args:
        timeout_s: From a request's first begin to its answer, unless it has a deadline of its own.
        max_in_flight: Requests that one way may have under way.
        max_waiting: Requests that may wait for a way; one more is refused.
    """

    def __init__(self, *, timeout_s: float, max_in_flight: int, max_waiting: int) -> None:
        self._timeout_s = timeout_s
        self._max_in_flight = max_in_flight
        self._max_waiting = max_waiting
        self._requests: dict[int, _Request] = {}
        self._on: dict[int, set[int]] = {}
        self._open: list[int] = []
        self._closed: set[int] = set()
        self._dispatcher: Dispatcher | None = None
        self._refusal: EdgeflowError | None = None
        self._is_closed = False
        #: Requests that were begun more than once, for people.
        self.num_replayed = 0

    @property
    def num_pending(self) -> int:
        return len(self._requests)

    @property
    def num_waiting(self) -> int:
        return sum(request.way is None for request in self._requests.values())

    @property
    def open_ways(self) -> tuple[int, ...]:
        """Ways that take requests."""
        return tuple(way for way in self._open if way not in self._closed)

    def under_way(self, way: int) -> int:
        return len(self._on.get(way, ()))

    @property
    def next_deadline_s(self) -> float | None:
        """When the next waiting request runs out of time; None if none does."""
        deadlines = [r.deadline_s for r in self._requests.values() if r.way is None and r.deadline_s]
        return min(deadlines, default=None)

    @recorded
    def handle(self, event: LedgerEvent, now_s: float) -> list[LedgerInstruction]:
        """Take an event; return what to do.

        Raises:
            OverloadedError: On `Submitted`: too many wait already.
            EdgeflowError: On `Submitted`: why no request is taken.
        """
        match event:
            case Submitted(request_id, deadline_s):
                self._submit(request_id, deadline_s)
                return self._assign(now_s)
            case Opened(ways):
                return [*self._switch(ways), *self._assign(now_s)]
            case WayLost(way, error):
                return [*self._lose(way, error), *self._assign(now_s)]
            case NoPlan(error):
                if self.open_ways:
                    return []
                self._refusal = error
                return self._fail_waiting(error)
            case Answered(way, request_id, seconds):
                if not self._leave(way, request_id, seconds):
                    return []
                del self._requests[request_id]
                return [Answer(request_id), *self._assign(now_s), *self._settle(way)]
            case Failed(way, request_id, error):
                if not self._leave(way, request_id, None):
                    return []
                return [*self._come_back(request_id, error), *self._assign(now_s), *self._settle(way)]
            case Abandoned(request_id):
                return [*self._abandon(request_id), *self._assign(now_s)]
            case Closed(error):
                self._refusal, self._is_closed = error, True
                cancels = [
                    Cancel(way, number) for way, on in sorted(self._on.items()) for number in sorted(on)
                ]
                fails = [Fail(request_id, error) for request_id in sorted(self._requests)]
                self._requests.clear()
                self._on.clear()
                self._open.clear()
                return [*cancels, *fails]
            case Tick():
                return self._expire(now_s)

    def validate(self) -> None:
        for way, on in self._on.items():
            assert len(on) <= self._max_in_flight, f"{len(on)} requests on way {way}"
            for request_id in on:
                assert self._requests[request_id].way == way
        for request_id, request in self._requests.items():
            if request.way is not None:
                assert request_id in self._on[request.way], f"request {request_id} is lost on {request.way}"
        if self._refusal is not None and self._is_closed:
            assert not self._requests
        assert set(self.open_ways) <= self._on.keys() or self._is_closed

    def _submit(self, request_id: int, deadline_s: float | None) -> None:
        if self._refusal is not None:
            raise self._refusal
        num_waiting = self.num_waiting
        if num_waiting >= self._max_waiting:
            raise OverloadedError(
                f"{num_waiting} requests wait already, at most {self._max_waiting} may; "
                f"{self.num_pending - num_waiting} are under way"
            )
        self._requests[request_id] = _Request(deadline_s)

    # Ways.

    def _switch(self, ways: Mapping[int, float]) -> list[LedgerInstruction]:
        retired = list(self._on)
        if not self._is_closed:
            self._refusal = None
        self._open = sorted(ways)
        self._closed.clear()  # of ways before these
        self._dispatcher = Dispatcher([ways[way] for way in self._open])
        for way in self._open:
            self._on[way] = set()
        return [instruction for way in retired for instruction in self._settle(way)]

    def _settle(self, way: int) -> list[LedgerInstruction]:
        """Let go of a retired way that has nothing left to answer."""
        if way in self._open or self._on.get(way, True):
            return []
        del self._on[way]
        return [Drained(way)]

    def _lose(self, way: int, error: EdgeflowError) -> list[LedgerInstruction]:
        if way not in self._on:
            return []
        lost = sorted(self._on[way])
        for request_id in lost:
            self._leave(way, request_id, None)
        if way in self._open:
            assert self._dispatcher is not None
            self._dispatcher.close(self._open.index(way))
            self._closed.add(way)
        del self._on[way]
        return [
            instruction
            for request_id in lost
            for instruction in (Cancel(way, request_id), *self._come_back(request_id, error))
        ]

    # Requests.

    def _assign(self, now_s: float) -> list[LedgerInstruction]:
        """Give waiting requests, oldest first, to the way that is expected to finish them first."""
        begun: list[LedgerInstruction] = []
        if not self.open_ways or self._dispatcher is None:
            return begun
        for request_id, request in sorted(self._requests.items()):
            if request.way is not None:
                continue
            way = self._open[self._dispatcher.choose()]
            if len(self._on[way]) >= self._max_in_flight:
                break
            self._dispatcher.begin()
            self._on[way].add(request_id)
            request.way = way
            request.num_attempts += 1
            self.num_replayed += request.num_attempts == 2
            if request.deadline_s is None:
                request.deadline_s = now_s + self._timeout_s
            begun.append(Begin(way, request_id, request.deadline_s))
        return begun

    def _leave(self, way: int, request_id: int, seconds: float | None) -> bool:
        """Take a request off its way; return whether it was there."""
        if request_id not in self._on.get(way, ()):
            return False
        self._on[way].discard(request_id)
        self._requests[request_id].way = None
        if way in self._open and self._dispatcher is not None:
            self._dispatcher.end(self._open.index(way), seconds)
        return True

    def _come_back(self, request_id: int, error: Exception) -> list[LedgerInstruction]:
        """Let a request wait again, if another way may answer it."""
        request = self._requests[request_id]
        request.error = error
        may_go_on = isinstance(error, _ELSEWHERE) and request.num_attempts < MAX_ATTEMPTS
        reason = error if not may_go_on else self._refusal
        if reason is None:
            return []
        del self._requests[request_id]
        return [Fail(request_id, reason)]

    def _fail_waiting(self, error: EdgeflowError) -> list[LedgerInstruction]:
        waiting = sorted(number for number, request in self._requests.items() if request.way is None)
        for request_id in waiting:
            del self._requests[request_id]
        return [Fail(request_id, error) for request_id in waiting]

    def _abandon(self, request_id: int) -> list[LedgerInstruction]:
        request = self._requests.get(request_id)
        if request is None:
            return []
        way = request.way
        if way is None:
            del self._requests[request_id]
            return []
        self._leave(way, request_id, None)
        del self._requests[request_id]
        return [Cancel(way, request_id), *self._settle(way)]

    def _expire(self, now_s: float) -> list[LedgerInstruction]:
        """Fail requests that have waited too long; ways watch the deadlines of those that were begun."""
        late = [
            (number, request)
            for number, request in sorted(self._requests.items())
            if request.way is None and request.deadline_s is not None and request.deadline_s <= now_s
        ]
        for number, _ in late:
            del self._requests[number]
        return [Fail(number, _late(number, request)) for number, request in late]


def _late(request_id: int, request: _Request) -> DeadlineExceededError:
    reason = f"; the last attempt ended with: {request.error}" if request.error else ""
    return DeadlineExceededError(
        f"request {request_id} ran out of time: begun {request.num_attempts} times, waiting again{reason}"
        if request.num_attempts
        else f"request {request_id} ran out of time before any worker had room for it"
    )
