"""What a worker decides: events in, instructions out; no socket, clock or thread.

It adds to a rank (`edgeflow.rank.state`) how programs come and go. An epoch is one plan on one set of
workers. Its life on a worker:

    prepared ──(weights loaded)─> ready ──commit──> committed ──release──> draining ──(last request)──> gone
        └──────────────────────────────┴── abort, or the client is lost ────────────────────────────────^

The outer ring (`edgeflow.worker.worker`) turns calls, frames and lost connections into events, and
carries out the instructions in order. An event that is not allowed raises an `EdgeflowError`, which goes back
to the caller or peer that caused it, and changes nothing.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Final

from edgeflow.errors import (
    EdgeflowError,
    PeerLostError,
    StalePlanError,
    WorkerFailedError,
    WorkerOutOfMemoryError,
    WorkerOverloadedError,
)
from edgeflow.machine import Machine, recorded
from edgeflow.plan.program import CLIENT
from edgeflow.rank.events import (
    EpochBroken,
    EpochClosed,
    EpochDrains,
    EpochOpened,
    FrameArrived,
    RankEvent,
    RankInstruction,
)
from edgeflow.rank.state import RankState
from edgeflow.worker.events import (
    AbortRequested,
    CommitRequested,
    Dial,
    FreeEpoch,
    LeaseRenewed,
    Loaded,
    PeerConnected,
    PeerLost,
    PrepareRequested,
    ReleaseRequested,
    TellClient,
    Tick,
    WorkerEvent,
    WorkerInstruction,
)

#: Requests of one epoch that may have begun and not ended, if memory allows. While one waits for a frame,
#: another computes; more than a few would only hold memory.
MAX_ACTIVE: Final = 4

#: An epoch whose client has not connected after this time was left behind by a coordinator that died.
UNATTENDED_S: Final = 900.0

#: Epochs that a worker holds at once: the one that answers, the next one, and those of other coordinators.
MAX_EPOCHS: Final = 32

#: Requests of one epoch that may be known and not ended. Frames without payload take no memory of the limit
#: for early frames, so their number is bounded too.
MAX_PENDING: Final = 4096

#: Time after the last ping of its coordinator until an epoch is freed.
LEASE_S: Final = 20.0

#: Ids of epochs that are gone; a late call for one of them must not bring it back.
_MAX_REMEMBERED: Final = 1024


class Phase(enum.Enum):
    PREPARED = "prepared"
    READY = "ready"
    COMMITTED = "committed"
    DRAINING = "draining"


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochStatus:
    """An epoch, for people and for `Describe`."""

    epoch: int
    phase: Phase
    rank: int
    num_active_requests: int
    reserved_bytes: int


@dataclass(slots=True)
class _Epoch:
    request: PrepareRequested
    reserved_bytes: int
    phase: Phase = Phase.PREPARED
    connected: set[int] = field(default_factory=set)
    #: When its coordinator last renewed the lease; None if it never did.
    leased_s: float | None = None


Event = WorkerEvent | RankEvent
Instruction = WorkerInstruction | RankInstruction


class WorkerState(Machine):
    """The state of one worker.

    Args:
        memory_limit_bytes: What weights and buffers of all epochs may take together.
        early_limit_bytes: What may be kept, per epoch, for requests that have not begun.
    """

    def __init__(
        self, *, memory_limit_bytes: int, early_limit_bytes: int, max_active: int = MAX_ACTIVE
    ) -> None:
        self._memory_limit_bytes = memory_limit_bytes
        self._early_limit_bytes = early_limit_bytes
        self._max_active = max_active
        self._epochs: dict[int, _Epoch] = {}
        self._gone: dict[int, None] = {}
        self._requests = RankState()

    @recorded
    def handle(self, event: Event) -> list[Instruction]:
        """Take an event; return what to do.

        Raises:
            StalePlanError: The epoch is unknown, or not in the phase that the event needs.
            WorkerOverloadedError: There is not enough memory.
            CodecError: A peer has sent a frame that the program does not receive.
        """
        match event:
            case FrameArrived(epoch=epoch):
                self._check_takes_frames(epoch)
                return [*self._requests.decide(event)]
            case PrepareRequested():
                return self._prepare(event)
            case Loaded(epoch):
                self._get(epoch, Phase.PREPARED).phase = Phase.READY
                return []
            case CommitRequested(epoch):
                return self._commit(epoch)
            case ReleaseRequested(epoch):
                return self._release(epoch)
            case AbortRequested(epoch):
                return self._free(epoch)
            case PeerConnected(epoch, rank):
                return self._connect(epoch, rank)
            case PeerLost():
                return self._lose(event)
            case LeaseRenewed(epochs, now_s):
                for epoch in epochs:
                    if epoch in self._epochs:
                        self._epochs[epoch].leased_s = now_s
                return []
            case Tick(now_s):
                return self._expire(now_s)
        return [*self._requests.decide(event), *self._settle(event.epoch)]

    def status(self) -> tuple[EpochStatus, ...]:
        return tuple(
            EpochStatus(
                epoch=epoch,
                phase=entry.phase,
                rank=entry.request.rank,
                num_active_requests=self._requests.num_active(epoch),
                reserved_bytes=entry.reserved_bytes,
            )
            for epoch, entry in sorted(self._epochs.items())
        )

    def validate(self) -> None:
        self._requests.validate()
        assert self._requests.epochs == self._epochs.keys()
        reserved = sum(entry.reserved_bytes for entry in self._epochs.values())
        assert reserved <= self._memory_limit_bytes, f"{reserved:,} of {self._memory_limit_bytes:,} bytes"
        assert len(self._epochs) <= MAX_EPOCHS
        for epoch, entry in self._epochs.items():
            assert epoch not in self._gone
            if entry.phase in (Phase.PREPARED, Phase.READY):
                assert not self._requests.pending(epoch), f"epoch {epoch} runs before it is committed"
            if entry.phase is Phase.DRAINING:
                assert self._requests.pending(epoch), f"epoch {epoch} has drained and was not freed"

    # The life of an epoch.

    def _prepare(self, event: PrepareRequested) -> list[Instruction]:
        if event.epoch in self._epochs:
            raise StalePlanError(f"epoch {event.epoch} is prepared already")
        if event.epoch in self._gone:
            raise StalePlanError(f"epoch {event.epoch} has been released or aborted")
        if len(self._epochs) >= MAX_EPOCHS:
            raise WorkerOverloadedError(f"{len(self._epochs)} epochs are held already, at most {MAX_EPOCHS}")
        used = sum(entry.reserved_bytes for entry in self._epochs.values())
        free = self._memory_limit_bytes - used
        needed = event.weight_bytes + event.peak_bytes
        if needed > free:
            raise WorkerOverloadedError(
                f"epoch {event.epoch} needs {needed:,} bytes ({event.weight_bytes:,} of weights, "
                f"{event.peak_bytes:,} of buffers), {free:,} of {self._memory_limit_bytes:,} are free"
            )
        # Half of what is left, so that the next plan can be prepared while this one runs.
        spare = (free - needed) // 2
        max_active = min(self._max_active, 1 + spare // max(1, event.peak_bytes))
        self._epochs[event.epoch] = _Epoch(
            request=event, reserved_bytes=event.weight_bytes + max_active * event.peak_bytes
        )
        self._requests.decide(
            EpochOpened(
                epoch=event.epoch,
                receives=event.receives,
                max_active=max_active,
                max_pending=MAX_PENDING,
                early_limit_bytes=self._early_limit_bytes,
            )
        )
        return []

    def _commit(self, epoch: int) -> list[Instruction]:
        entry = self._get(epoch, Phase.READY)
        entry.phase = Phase.COMMITTED
        mine = entry.request.rank
        return [Dial(epoch, rank) for rank in sorted(entry.request.peers) if rank > mine]

    def _release(self, epoch: int) -> list[Instruction]:
        if epoch not in self._epochs:
            return []
        self._epochs[epoch].phase = Phase.DRAINING
        self._requests.decide(EpochDrains(epoch, StalePlanError(f"epoch {epoch} is being released")))
        return self._settle(epoch)

    def _settle(self, epoch: int) -> list[Instruction]:
        """Free an epoch that drains and has no request left."""
        entry = self._epochs.get(epoch)
        if entry is None or entry.phase is not Phase.DRAINING or self._requests.pending(epoch):
            return []
        return self._free(epoch)

    def _free(self, epoch: int) -> list[Instruction]:
        self._remember_gone(epoch)
        if self._epochs.pop(epoch, None) is None:
            return []
        return [*self._requests.decide(EpochClosed(epoch)), FreeEpoch(epoch)]

    def _expire(self, now_s: float) -> list[Instruction]:
        unattended = [
            epoch
            for epoch, entry in sorted(self._epochs.items())
            if (CLIENT not in entry.connected and now_s - entry.request.now_s > UNATTENDED_S)
            or (entry.leased_s is not None and now_s - entry.leased_s > LEASE_S)
        ]
        return [instruction for epoch in unattended for instruction in self._free(epoch)]

    def _remember_gone(self, epoch: int) -> None:
        self._gone[epoch] = None
        while len(self._gone) > _MAX_REMEMBERED:
            del self._gone[next(iter(self._gone))]

    # Peers.

    def _connect(self, epoch: int, rank: int) -> list[Instruction]:
        entry = self._get(epoch)
        is_due = rank == CLIENT or (rank in entry.request.peers and rank < entry.request.rank)
        if not is_due or rank in entry.connected:
            raise StalePlanError(f"epoch {epoch}: no connection from rank {rank} is due")
        entry.connected.add(rank)
        return []

    def _lose(self, event: PeerLost) -> list[Instruction]:
        epoch, peer, reason = event.epoch, event.rank, event.reason
        entry = self._epochs.get(epoch)
        if entry is None:
            return []
        if peer == CLIENT:
            # Nobody is left to want an answer, or to release the epoch.
            return self._free(epoch)
        rank = entry.request.rank
        refusal = PeerLostError(f"rank {rank} has lost rank {peer}: {reason}", rank=rank, peer=peer)
        error = PeerLostError(
            f"rank {rank} lost rank {peer}: {reason}",
            rank=rank,
            peer=peer,
            is_broken=event.is_broken,
            is_silent=event.is_silent,
        )
        self._requests.decide(EpochDrains(epoch, refusal))
        if not self._requests.pending(epoch):
            # A request that was here may wait at the peer for a frame that was sent in vain.
            return [TellClient(epoch, error)]
        return [*self._requests.decide(EpochBroken(epoch, error)), *self._settle(epoch)]

    # Helpers.

    def _check_takes_frames(self, epoch: int) -> None:
        entry = self._epochs.get(epoch)
        if entry is None or entry.phase not in (Phase.COMMITTED, Phase.DRAINING):
            raise StalePlanError(f"epoch {epoch} takes no frames")

    def _get(self, epoch: int, *phases: Phase) -> _Epoch:
        entry = self._epochs.get(epoch)
        if entry is None:
            raise StalePlanError(f"epoch {epoch} is not held here")
        if phases and entry.phase not in phases:
            raise StalePlanError(
                f"epoch {epoch} is {entry.phase.value}, not {' or '.join(phase.value for phase in phases)}"
            )
        return entry


def failed(error: BaseException) -> EdgeflowError:
    """Return ``error`` as an `EdgeflowError`; of a foreign one only the class is told."""
    if isinstance(error, EdgeflowError):
        return error
    # torch reports it as a RuntimeError.
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
        return WorkerOutOfMemoryError("the program ran out of memory")
    return WorkerFailedError(f"the program raised {type(error).__name__}; see the worker's log")
