"""What a coordinator decides about a deployment: events in, instructions out; no socket, clock or thread.

A plan is brought onto workers and taken off again in steps, which all workers take before any takes the
next one:

    connecting ─> preparing ─> loading ─> committing ─> attaching ─> committed ─> closing ─> closed
        └─────────────┴────────────┴──────────┴─────────────┴──> failing ──> aborting ──> failed

So either all workers hold the plan, or, whatever fails, none does. The requests of a committed plan are in
`edgeflow.coordinator.requests`.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final


class Phase(enum.Enum):
    CONNECTING = "connecting"
    PREPARING = "preparing"
    LOADING = "loading"
    COMMITTING = "committing"
    ATTACHING = "attaching"
    COMMITTED = "committed"
    CLOSING = "closing"
    CLOSED = "closed"
    #: Something went wrong; calls that are under way come to their end.
    FAILING = "failing"
    #: Workers that had been told something are told to forget it.
    ABORTING = "aborting"
    FAILED = "failed"


class Call(enum.Enum):
    """What is asked of one worker."""

    DESCRIBE = "describe"
    PREPARE = "prepare"
    LOAD = "load"
    COMMIT = "commit"
    #: Open the data connection with the client.
    ATTACH = "attach"
    RELEASE = "release"
    ABORT = "abort"


_STEPS: Final = (
    (Phase.CONNECTING, Call.DESCRIBE),
    (Phase.PREPARING, Call.PREPARE),
    (Phase.LOADING, Call.LOAD),
    (Phase.COMMITTING, Call.COMMIT),
    (Phase.ATTACHING, Call.ATTACH),
)
_CALLS: Final = dict(_STEPS)
_PHASES: Final = tuple(_CALLS)


@dataclass(frozen=True, slots=True)
class Opened:
    """Somebody wants the plan deployed."""


@dataclass(frozen=True, slots=True)
class CallDone:
    rank: int


@dataclass(frozen=True, slots=True)
class CallFailed:
    rank: int
    error: BaseException


@dataclass(frozen=True, slots=True)
class Interrupted:
    """Whoever waits for the deployment has given up."""

    error: BaseException


@dataclass(frozen=True, slots=True)
class CloseRequested:
    """The plan is not wanted any more; without ``is_idle`` there are requests that nobody wants either."""

    is_idle: bool


DeploymentEvent = Opened | CallDone | CallFailed | Interrupted | CloseRequested


@dataclass(frozen=True, slots=True)
class MakeCall:
    rank: int
    call: Call


@dataclass(frozen=True, slots=True)
class CancelCall:
    """End the call that is under way; it answers as done or failed all the same."""

    rank: int


@dataclass(frozen=True, slots=True)
class Finish:
    """The deployment stands, or is gone; ``error`` says why it failed."""

    error: BaseException | None = None


DeploymentInstruction = MakeCall | CancelCall | Finish


class DeploymentState:
    """A plan on its way onto workers and off again.

    Args:
        ranks: The workers that take part.
    """

    def __init__(self, ranks: Iterable[int]) -> None:
        self.phase = Phase.CONNECTING
        self._ranks = tuple(sorted(ranks))
        self._outstanding: set[int] = set()
        self._told: set[int] = set()
        self._error: BaseException | None = None

    def handle(self, event: DeploymentEvent) -> list[DeploymentInstruction]:
        """Take an event; return what to do."""
        match event:
            case Opened():
                return self._call_all(self._ranks, Call.DESCRIBE)
            case CallDone(rank):
                self._outstanding.discard(rank)
                return self._proceed()
            case CallFailed(rank, error):
                self._outstanding.discard(rank)
                return [*self._fail(error), *self._proceed()]
            case Interrupted(error):
                return [*self._fail(error), *self._proceed()]
            case CloseRequested(is_idle):
                return self._close(is_idle)

    def _call_all(self, ranks: Iterable[int], call: Call) -> list[DeploymentInstruction]:
        calls: list[DeploymentInstruction] = [MakeCall(rank, call) for rank in ranks]
        self._outstanding = set(ranks)
        if call is Call.PREPARE:
            self._told = set(ranks)
        return calls

    def _fail(self, error: BaseException) -> list[DeploymentInstruction]:
        if self.phase not in _CALLS:
            return []  # while closing or aborting, whoever cannot be told is not told
        self.phase = Phase.FAILING
        self._error = error
        return [CancelCall(rank) for rank in sorted(self._outstanding)]

    def _proceed(self) -> list[DeploymentInstruction]:
        if self._outstanding:
            return []
        match self.phase:
            case Phase.FAILING if self._told:
                self.phase = Phase.ABORTING
                return self._call_all(sorted(self._told), Call.ABORT)
            case Phase.FAILING | Phase.ABORTING:
                self.phase = Phase.FAILED
                return [Finish(self._error)]
            case Phase.CLOSING:
                self.phase = Phase.CLOSED
                return [Finish()]
            case Phase.ATTACHING:
                self.phase = Phase.COMMITTED
                return [Finish()]
            case phase if phase in _CALLS:
                self.phase = _PHASES[_PHASES.index(phase) + 1]
                return self._call_all(self._ranks, _CALLS[self.phase])
        return []

    def _close(self, is_idle: bool) -> list[DeploymentInstruction]:
        if self.phase is not Phase.COMMITTED:
            return []
        self.phase = Phase.CLOSING
        return self._call_all(self._ranks, Call.RELEASE if is_idle else Call.ABORT)
