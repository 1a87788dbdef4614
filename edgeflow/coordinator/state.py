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
from typing import Final

from edgeflow.machine import Machine, Word, recorded


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
    """A call to one worker."""

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


class Opened(Word, frozen=True):
    """The plan is to be deployed."""


class CallDone(Word, frozen=True):
    rank: int


class CallFailed(Word, frozen=True, gc=True):
    rank: int
    error: BaseException


class Interrupted(Word, frozen=True, gc=True):
    """The deployment was given up."""

    error: BaseException


class CloseRequested(Word, frozen=True):
    """The plan is not wanted any more; unless ``is_idle``, its pending requests are not either."""

    is_idle: bool


DeploymentEvent = Opened | CallDone | CallFailed | Interrupted | CloseRequested


class MakeCall(Word, frozen=True):
    rank: int
    call: Call


class CancelCall(Word, frozen=True):
    """End the call that is under way; `CallDone` or `CallFailed` follows all the same."""

    rank: int


class Finish(Word, frozen=True, gc=True):
    """The deployment stands, or is gone; ``error`` says why it failed."""

    error: BaseException | None = None


DeploymentInstruction = MakeCall | CancelCall | Finish


class DeploymentState(Machine):
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

    @recorded
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

    def validate(self) -> None:
        assert self._outstanding <= set(self._ranks)
        assert self._told <= set(self._ranks)
        if self.phase in (Phase.COMMITTED, Phase.CLOSED, Phase.FAILED):
            assert not self._outstanding, f"calls to {self._outstanding} are under way"

    def _call_all(self, ranks: Iterable[int], call: Call) -> list[DeploymentInstruction]:
        calls: list[DeploymentInstruction] = [MakeCall(rank, call) for rank in ranks]
        self._outstanding = set(ranks)
        if call is Call.PREPARE:
            self._told = set(ranks)
        return calls

    def _fail(self, error: BaseException) -> list[DeploymentInstruction]:
        if self.phase not in _CALLS:
            return []  # while closing or aborting, workers that cannot be reached are left alone
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
