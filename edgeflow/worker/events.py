"""The events and instructions of `edgeflow.worker.state`, beside those of a rank (`edgeflow.rank.events`)."""

from __future__ import annotations

from edgeflow.errors import EdgeflowError
from edgeflow.machine import Word
from edgeflow.rank.schedule import FrameKey

# Events.


class PrepareRequested(Word, frozen=True, kw_only=True):
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


class Loaded(Word, frozen=True):
    """The weights of an epoch have arrived, and its program is compiled."""

    epoch: int


class CommitRequested(Word, frozen=True):
    epoch: int


class ReleaseRequested(Word, frozen=True):
    epoch: int


class AbortRequested(Word, frozen=True):
    epoch: int


class PeerConnected(Word, frozen=True):
    """A peer has dialled this worker."""

    epoch: int
    rank: int


class PeerLost(Word, frozen=True):
    """The connection with a peer has ended.

    Attributes:
        is_broken: Whether malformed data ended it, rather than its loss.
        is_silent: Whether nothing was acknowledged on it, though neither side had closed it.
    """

    epoch: int
    rank: int
    reason: str
    is_broken: bool = False
    is_silent: bool = False


class LeaseRenewed(Word, frozen=True):
    """The coordinator of these epochs is alive."""

    epochs: tuple[int, ...]
    now_s: float


class Tick(Word, frozen=True):
    """Time has passed."""

    now_s: float


WorkerEvent = (
    PrepareRequested
    | Loaded
    | CommitRequested
    | ReleaseRequested
    | AbortRequested
    | PeerConnected
    | PeerLost
    | LeaseRenewed
    | Tick
)


# Instructions.


class Dial(Word, frozen=True):
    """Connect to a peer."""

    epoch: int
    rank: int


class TellClient(Word, frozen=True, gc=True):
    """Tell the client of a failure that concerns every request of the epoch; none is pending here."""

    epoch: int
    error: EdgeflowError


class FreeEpoch(Word, frozen=True):
    """Forget an epoch: close its connections, free its program and its weights."""

    epoch: int


WorkerInstruction = Dial | TellClient | FreeEpoch
