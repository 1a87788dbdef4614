"""The events and instructions of `edgeflow.rank.state`."""

from __future__ import annotations

from edgeflow.errors import EdgeflowError
from edgeflow.machine import Word
from edgeflow.rank.schedule import FrameKey

# Events.


class EpochOpened(Word, frozen=True, kw_only=True):
    """Requests of a program may come.

    Attributes:
        receives: Every frame that the program receives.
        is_announced: Requests begin by `Submitted`; else by the arrival of their first frame.
        max_active: Requests that may have begun and not ended, if the lowest one may always begin.
        max_pending: Requests that may be known and not ended.
        early_limit_bytes: What may be kept for requests that have not begun.
    """

    epoch: int
    receives: frozenset[FrameKey]
    is_announced: bool = False
    max_active: int = 1
    max_pending: int = 1 << 60
    early_limit_bytes: int = 1 << 60


class EpochDrains(Word, frozen=True, gc=True):
    """New requests fail with ``error``; those that are pending go on."""

    epoch: int
    error: EdgeflowError


class EpochBroken(Word, frozen=True, gc=True):
    """All pending requests fail with ``error``, and so do new ones."""

    epoch: int
    error: EdgeflowError


class EpochClosed(Word, frozen=True):
    """The epoch is forgotten; what is pending is dropped."""

    epoch: int


class Submitted(Word, frozen=True):
    """A request is to begin when there is room for it."""

    epoch: int
    request_id: int


class FrameArrived(Word, frozen=True):
    epoch: int
    request_id: int
    frame: FrameKey
    num_bytes: int


class RequestWaits(Word, frozen=True):
    """The request that runs needs one of these frames to go on."""

    epoch: int
    request_id: int
    frames: tuple[FrameKey, ...]


class RequestFinished(Word, frozen=True):
    """The request that runs has come to the end of its program."""

    epoch: int
    request_id: int


class RequestFailed(Word, frozen=True, gc=True):
    """The request that runs has raised."""

    epoch: int
    request_id: int
    error: Exception


class RequestLost(Word, frozen=True, gc=True):
    """A request cannot be answered: another rank has reported a failure, or its time is up."""

    epoch: int
    request_id: int
    error: Exception


class RequestAbandoned(Word, frozen=True):
    """The answer is not wanted any more."""

    epoch: int
    request_id: int


RankEvent = (
    EpochOpened
    | EpochDrains
    | EpochBroken
    | EpochClosed
    | Submitted
    | FrameArrived
    | RequestWaits
    | RequestFinished
    | RequestFailed
    | RequestLost
    | RequestAbandoned
)


# Instructions.


class Keep(Word, frozen=True):
    """Keep the payload of the frame that has just arrived."""


class Discard(Word, frozen=True):
    """Forget the frame that has just arrived."""

    reason: str


class StartRequest(Word, frozen=True):
    """Begin to run a request."""

    epoch: int
    request_id: int


class Deliver(Word, frozen=True):
    """Give a request a frame that it waits for, and run it on."""

    epoch: int
    request_id: int
    frame: FrameKey


class FinishRequest(Word, frozen=True):
    """The outputs of a request are complete."""

    epoch: int
    request_id: int


class FailRequest(Word, frozen=True, gc=True):
    """Tell the owner of a request that it has failed."""

    epoch: int
    request_id: int
    error: Exception


class DropRequest(Word, frozen=True):
    """Forget what is held for a request: its frames, its buffers."""

    epoch: int
    request_id: int


RankInstruction = Keep | Discard | StartRequest | Deliver | FinishRequest | FailRequest | DropRequest
