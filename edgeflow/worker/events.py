"""What happens to a worker, and what it is to do about it: the words of `edgeflow.worker.state`."""

from __future__ import annotations

from dataclasses import dataclass

from edgeflow.errors import EdgeflowError
from edgeflow.rank.schedule import FrameKey


@dataclass(frozen=True, slots=True, kw_only=True)
class PrepareRequested:
    """The coordinator wants to run a program here.

    Attributes:
        rank: This worker's rank in the plan.
        receives: Every frame that the program receives.
        peers: Ranks that the program exchanges frames with, the client included.
        weight_bytes: Size of the weights.
        peak_bytes: Most bytes of buffers that one request needs.
        now_s: The time, on any clock that `Tick` also reads.
    """

    epoch: int
    rank: int
    receives: frozenset[FrameKey]
    peers: frozenset[int]
    weight_bytes: int
    peak_bytes: int
    now_s: float


@dataclass(frozen=True, slots=True)
class Loaded:
    """The weights of an epoch are there, and its program is compiled."""

    epoch: int


@dataclass(frozen=True, slots=True)
class CommitRequested:
    epoch: int


@dataclass(frozen=True, slots=True)
class ReleaseRequested:
    epoch: int


@dataclass(frozen=True, slots=True)
class AbortRequested:
    epoch: int


@dataclass(frozen=True, slots=True)
class PeerConnected:
    """A peer has dialled this worker."""

    epoch: int
    rank: int


@dataclass(frozen=True, slots=True)
class PeerLost:
    """The connection with a peer has ended.

    Attributes:
        is_broken: Because of what came over it, not because nothing did.
        is_silent: Nobody has closed it, and nothing is acknowledged.
    """

    epoch: int
    rank: int
    reason: str
    is_broken: bool = False
    is_silent: bool = False


@dataclass(frozen=True, slots=True)
class FrameArrived:
    epoch: int
    request_id: int
    frame: FrameKey
    num_bytes: int


@dataclass(frozen=True, slots=True)
class CancelArrived:
    """The client wants nothing more of a request."""

    epoch: int
    request_id: int


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
    error: EdgeflowError


@dataclass(frozen=True, slots=True)
class LeaseRenewed:
    """The coordinator of these epochs is alive."""

    epochs: tuple[int, ...]
    now_s: float


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""

    now_s: float


Event = (
    PrepareRequested
    | Loaded
    | CommitRequested
    | ReleaseRequested
    | AbortRequested
    | PeerConnected
    | PeerLost
    | FrameArrived
    | CancelArrived
    | RequestWaits
    | RequestFinished
    | RequestFailed
    | LeaseRenewed
    | Tick
)


# ------------------------------------------------------------------------------------- instructions


@dataclass(frozen=True, slots=True)
class Dial:
    """Connect to a peer."""

    epoch: int
    rank: int


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
    """Give a request the frame that it waits for, and run it on."""

    epoch: int
    request_id: int
    frame: FrameKey


@dataclass(frozen=True, slots=True)
class FailRequest:
    """Tell the client that a request has failed."""

    epoch: int
    request_id: int
    error: EdgeflowError


@dataclass(frozen=True, slots=True)
class TellClient:
    """Tell the client what is true of every request of the epoch, while none of them is here."""

    epoch: int
    error: EdgeflowError


@dataclass(frozen=True, slots=True)
class DropRequest:
    """Forget what is held for a request: its frames, its buffers."""

    epoch: int
    request_id: int


@dataclass(frozen=True, slots=True)
class FreeEpoch:
    """Forget an epoch: close its connections, free its program and its weights."""

    epoch: int


Instruction = (
    Dial | Keep | Discard | StartRequest | Deliver | FailRequest | TellClient | DropRequest | FreeEpoch
)
