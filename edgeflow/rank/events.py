"""The events and instructions of `edgeflow.rank.state`."""

from __future__ import annotations

from dataclasses import dataclass

from edgeflow.errors import EdgeflowError
from edgeflow.rank.schedule import FrameKey

# Events.


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochOpened:
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


@dataclass(frozen=True, slots=True)
class EpochDrains:
    """New requests fail with ``error``; those that are pending go on."""

    epoch: int
    error: EdgeflowError


@dataclass(frozen=True, slots=True)
class EpochBroken:
    """All pending requests fail with ``error``, and so do new ones."""

    epoch: int
    error: EdgeflowError


@dataclass(frozen=True, slots=True)
class EpochClosed:
    """The epoch is forgotten; what is pending is dropped."""

    epoch: int


@dataclass(frozen=True, slots=True)
class Submitted:
    """A request is to begin when there is room for it."""

    epoch: int
    request_id: int


@dataclass(frozen=True, slots=True)
class FrameArrived:
    epoch: int
    request_id: int
    frame: FrameKey
    num_bytes: int


@dataclass(frozen=True, slots=True)
class RequestWaits:
    """The request that runs needs one of these frames to go on."""

    epoch: int
    request_id: int
    frames: tuple[FrameKey, ...]


@dataclass(frozen=True, slots=True)
class RequestFinished:
    """The request that runs has come to the end of its program."""

    epoch: int
    request_id: int


@dataclass(frozen=True, slots=True)
class RequestFailed:
    """The request that runs has raised."""

    epoch: int
    request_id: int
    error: Exception


@dataclass(frozen=True, slots=True)
class RequestLost:
    """A request cannot be answered: another rank says so, or its time is up."""

    epoch: int
    request_id: int
    error: Exception


@dataclass(frozen=True, slots=True)
class RequestAbandoned:
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


@dataclass(frozen=True, slots=True)
class Keep:
    """Keep the payload of the frame that has just arrived."""


@dataclass(frozen=True, slots=True)
class Discard:
    """Forget the frame that has just arrived."""

    reason: str


@dataclass(frozen=True, slots=True)
class StartRequest:
    """Begin to run a request."""

    epoch: int
    request_id: int


@dataclass(frozen=True, slots=True)
class Deliver:
    """Give a request a frame that it waits for, and run it on."""

    epoch: int
    request_id: int
    frame: FrameKey


@dataclass(frozen=True, slots=True)
class FinishRequest:
    """The outputs of a request are complete."""

    epoch: int
    request_id: int


@dataclass(frozen=True, slots=True)
class FailRequest:
    """Tell the owner of a request that it has failed."""

    epoch: int
    request_id: int
    error: Exception


@dataclass(frozen=True, slots=True)
class DropRequest:
    """Forget what is held for a request: its frames, its buffers."""

    epoch: int
    request_id: int


RankInstruction = Keep | Discard | StartRequest | Deliver | FinishRequest | FailRequest | DropRequest
