"""What a worker decides: events in, instructions out; no socket, clock or thread.

An epoch is one plan on one set of workers. Its life on a worker:

    prepared ──(weights there)──> ready ──commit──> committed ──release──> draining ──(last request)──> gone
        └──────────────────────────────┴── abort, or the client is lost ────────────────────────────────^

The outer ring (`edgeflow.worker.worker`) turns calls, frames and lost connections into events, and
carries out the instructions in order. What must not happen is raised as an `EdgeflowError`, which goes back
to whoever caused the event; nothing has changed then.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Final

from edgeflow.errors import (
    CodecError,
    EdgeflowError,
    PeerLostError,
    StalePlanError,
    WorkerFailedError,
    WorkerOutOfMemoryError,
    WorkerOverloadedError,
)
from edgeflow.plan.program import CLIENT
from edgeflow.rank.schedule import Arrival, Begin, FrameKey, Schedule
from edgeflow.worker.events import (
    AbortRequested,
    CancelArrived,
    CommitRequested,
    Deliver,
    Dial,
    Discard,
    DropRequest,
    Event,
    FailRequest,
    FrameArrived,
    FreeEpoch,
    Instruction,
    Keep,
    LeaseRenewed,
    Loaded,
    PeerConnected,
    PeerLost,
    PrepareRequested,
    ReleaseRequested,
    RequestFailed,
    RequestFinished,
    RequestWaits,
    StartRequest,
    TellClient,
    Tick,
)

#: Requests of one epoch that may have begun and not ended, if memory allows. While one waits for a frame,
#: another computes; more than a few only hold memory.
MAX_ACTIVE: Final = 4

#: An epoch whose client has not connected by then was left behind by a coordinator that died.
UNATTENDED_S: Final = 900.0

#: Epochs that a worker holds at once: the one that answers, the next one, and those of other coordinators.
MAX_EPOCHS: Final = 32

#: Requests of one epoch that may be known and not ended. Frames without payload take no memory of the limit
#: for early frames, so their number is bounded too.
MAX_PENDING: Final = 4096
#: An epoch whose coordinator used to say that it is alive, and has not for so long.
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
    schedule: Schedule
    reserved_bytes: int
    phase: Phase = Phase.PREPARED
    connected: set[int] = field(default_factory=set)
    lost: dict[int, str] = field(default_factory=dict)
    #: When its coordinator was last heard of; None if it never said that it would be.
    leased_s: float | None = None


class WorkerState:
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
        #: The request that runs; there is one thread for all epochs.
        self._running: tuple[int, int] | None = None

    def handle(self, event: Event) -> list[Instruction]:
        """Take an event; return what to do.

        Raises:
            StalePlanError: The epoch is unknown, or not in the phase that the event needs.
            WorkerOverloadedError: There is not enough memory.
            CodecError: A peer has sent what the program does not receive.
        """
        match event:
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
            case FrameArrived():
                return self._arrive(event)
            case CancelArrived(epoch, request_id):
                return self._cancel(epoch, request_id)
            case RequestWaits(epoch, request_id, frames):
                return self._wait(epoch, request_id, frames)
            case RequestFinished(epoch, request_id):
                return self._finish(epoch, request_id)
            case RequestFailed(epoch, request_id, error):
                self._running = None
                return [*self._fail(epoch, (request_id,), error), *self._settle(epoch), *self._next()]
            case LeaseRenewed(epochs, now_s):
                for epoch in epochs:
                    if epoch in self._epochs:
                        self._epochs[epoch].leased_s = now_s
                return []
            case Tick(now_s):
                return self._expire(now_s)

    def status(self) -> tuple[EpochStatus, ...]:
        return tuple(
            EpochStatus(
                epoch=epoch,
                phase=entry.phase,
                rank=entry.request.rank,
                num_active_requests=entry.schedule.num_active,
                reserved_bytes=entry.reserved_bytes,
            )
            for epoch, entry in sorted(self._epochs.items())
        )

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
            request=event,
            schedule=Schedule(
                event.receives, max_active=max_active, early_limit_bytes=self._early_limit_bytes
            ),
            reserved_bytes=event.weight_bytes + max_active * event.peak_bytes,
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
        return self._settle(epoch)

    def _settle(self, epoch: int) -> list[Instruction]:
        """Free an epoch that drains and has no request left."""
        entry = self._epochs.get(epoch)
        if entry is None or entry.phase is not Phase.DRAINING or entry.schedule.pending:
            return []
        return self._free(epoch)

    def _free(self, epoch: int) -> list[Instruction]:
        self._remember_gone(epoch)
        entry = self._epochs.pop(epoch, None)
        if entry is None:
            return []
        drops: list[Instruction] = [DropRequest(epoch, request_id) for request_id in entry.schedule.pending]
        return [*drops, FreeEpoch(epoch)]

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
        epoch, rank, reason = event.epoch, event.rank, event.reason
        entry = self._epochs.get(epoch)
        if entry is None:
            return []
        if rank == CLIENT:
            # Nobody is left who wants an answer, or who would release the epoch.
            return self._free(epoch)
        entry.lost[rank] = reason
        mine = entry.request.rank
        error = PeerLostError(
            f"rank {mine} lost rank {rank}: {reason}",
            rank=mine,
            peer=rank,
            is_broken=event.is_broken,
            is_silent=event.is_silent,
        )
        if not entry.schedule.pending:
            # A request that was here may wait at the peer for what has been sent in vain.
            return [TellClient(epoch, error)]
        return [*self._fail(epoch, entry.schedule.pending, error), *self._settle(epoch), *self._next()]

    # Requests.

    def _arrive(self, event: FrameArrived) -> list[Instruction]:
        entry = self._epochs.get(event.epoch)
        if entry is None or entry.phase not in (Phase.COMMITTED, Phase.DRAINING):
            raise StalePlanError(f"epoch {event.epoch} takes no frames")
        schedule, request_id = entry.schedule, event.request_id
        is_new = not schedule.is_pending(request_id) and not schedule.has_ended(request_id)
        refusal = self._refusal(entry, event.epoch) if is_new else None
        if refusal is not None:
            return [Discard("refused"), *self._fail(event.epoch, (request_id,), refusal)]
        arrival = schedule.arrive(request_id, event.frame, event.num_bytes)
        if arrival is Arrival.KEEP:
            return [Keep(), *self._next()]
        if arrival is Arrival.UNEXPECTED:
            peer, tag = event.frame
            raise CodecError(f"rank {entry.request.rank} receives no frame {tag} from rank {peer}")
        if arrival is Arrival.OVERLOADED:
            error = WorkerOverloadedError(
                f"rank {entry.request.rank} keeps {schedule.early_bytes:,} bytes for requests that have not "
                f"begun; {event.num_bytes:,} more would exceed {self._early_limit_bytes:,}"
            )
            return [Discard("overloaded"), *self._fail(event.epoch, (request_id,), error)]
        return [Discard(arrival.value)]

    def _refusal(self, entry: _Epoch, epoch: int) -> EdgeflowError | None:
        """Why a new request cannot be run, if it cannot."""
        if entry.phase is Phase.DRAINING:
            return StalePlanError(f"epoch {epoch} is being released")
        if entry.lost:
            rank, reason = min(entry.lost.items())
            mine = entry.request.rank
            return PeerLostError(f"rank {mine} has lost rank {rank}: {reason}", rank=mine, peer=rank)
        if len(entry.schedule.pending) >= MAX_PENDING:
            return WorkerOverloadedError(f"epoch {epoch} has {MAX_PENDING} requests that have not ended")
        return None

    def _cancel(self, epoch: int, request_id: int) -> list[Instruction]:
        entry = self._epochs.get(epoch)
        if entry is None:
            return []
        was_pending = entry.schedule.is_pending(request_id)
        entry.schedule.end(request_id)
        drops: list[Instruction] = [DropRequest(epoch, request_id)] if was_pending else []
        return [*drops, *self._settle(epoch), *self._next()]

    def _wait(self, epoch: int, request_id: int, frames: tuple[FrameKey, ...]) -> list[Instruction]:
        self._running = None
        entry = self._epochs.get(epoch)
        # It may have been ended while it ran; its drop is under way.
        if entry is not None and entry.schedule.is_pending(request_id):
            entry.schedule.wait(request_id, frames)
        return self._next()

    def _finish(self, epoch: int, request_id: int) -> list[Instruction]:
        self._running = None
        entry = self._epochs.get(epoch)
        if entry is None or not entry.schedule.is_pending(request_id):
            return self._next()
        entry.schedule.end(request_id)
        return [DropRequest(epoch, request_id), *self._settle(epoch), *self._next()]

    def _fail(self, epoch: int, request_ids: tuple[int, ...], error: EdgeflowError) -> list[Instruction]:
        entry = self._epochs.get(epoch)
        if entry is None:
            return []
        instructions: list[Instruction] = []
        for request_id in request_ids:
            if entry.schedule.has_ended(request_id):
                continue
            entry.schedule.end(request_id)
            instructions += [FailRequest(epoch, request_id, error), DropRequest(epoch, request_id)]
        return instructions

    def _next(self) -> list[Instruction]:
        if self._running is not None:
            return []
        for epoch, entry in sorted(self._epochs.items()):
            job = entry.schedule.next()
            if job is None:
                continue
            self._running = (epoch, job.request_id)
            if isinstance(job, Begin):
                return [StartRequest(epoch, job.request_id)]
            return [Deliver(epoch, job.request_id, job.frame)]
        return []

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
    """Return ``error`` as one of ours; what is not ours says no more than its class."""
    if isinstance(error, EdgeflowError):
        return error
    # torch says it in a RuntimeError of its own.
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
        return WorkerOutOfMemoryError("the program ran out of memory")
    return WorkerFailedError(f"the program raised {type(error).__name__}; see the worker's log")
