"""What a rank decides about requests: events in, instructions out; no socket, clock or thread.

One thread runs the requests of all epochs. A request becomes known when it is submitted (on the client) or
when its first frame arrives (on a worker), begins when there is room, and ends in one of three ways:

    known ──StartRequest──> begun ──┬─ finished ──> FinishRequest, DropRequest
                                    ├─ failed ────> FailRequest, DropRequest
                                    └─ abandoned ─> DropRequest

What a worker adds (programs, memory, leases) is in `edgeflow.worker.state`, what the client adds (deadlines)
in `edgeflow.coordinator.requests`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from edgeflow.errors import CodecError, EdgeflowError, StalePlanError, WorkerOverloadedError
from edgeflow.machine import Machine, recorded
from edgeflow.rank.events import (
    Deliver,
    Discard,
    DropRequest,
    EpochBroken,
    EpochClosed,
    EpochDrains,
    EpochOpened,
    FailRequest,
    FinishRequest,
    FrameArrived,
    Keep,
    RankEvent,
    RankInstruction,
    RequestAbandoned,
    RequestFailed,
    RequestFinished,
    RequestLost,
    RequestWaits,
    StartRequest,
    Submitted,
)
from edgeflow.rank.schedule import Arrival, Begin, FrameKey, Schedule


@dataclass(slots=True)
class _Epoch:
    opened: EpochOpened
    schedule: Schedule
    #: Why new requests are refused, if they are.
    refusal: EdgeflowError | None = None


class RankState(Machine):
    """The requests of one rank, in all of its epochs."""

    def __init__(self) -> None:
        self._epochs: dict[int, _Epoch] = {}
        #: The epoch and the id of the request that runs.
        self._running: tuple[int, int] | None = None

    @property
    def epochs(self) -> frozenset[int]:
        """Epochs that are open."""
        return frozenset(self._epochs)

    def pending(self, epoch: int) -> tuple[int, ...]:
        """Requests that have not ended, lowest id first."""
        entry = self._epochs.get(epoch)
        return () if entry is None else entry.schedule.pending

    def num_active(self, epoch: int) -> int:
        """Requests that have begun and not ended."""
        return self._epochs[epoch].schedule.num_active

    def is_pending(self, epoch: int, request_id: int) -> bool:
        entry = self._epochs.get(epoch)
        return entry is not None and entry.schedule.is_pending(request_id)

    def waits_for(self, epoch: int, request_id: int) -> frozenset[FrameKey]:
        """The frames of which a request waits for one; empty if it does not wait."""
        entry = self._epochs.get(epoch)
        return frozenset() if entry is None else entry.schedule.waits_for(request_id)

    @recorded
    def handle(self, event: RankEvent) -> list[RankInstruction]:
        """`decide`, recorded."""
        return self.decide(event)

    def decide(self, event: RankEvent) -> list[RankInstruction]:
        """Take an event; return what to do, in order. For a machine around this one, which is recorded.

        Raises:
            StalePlanError: If a frame or a request is of an epoch that is not open.
            CodecError: If a frame has arrived that the program does not receive.
            EdgeflowError: On `Submitted`: why no request is taken.
        """
        match event:
            case FrameArrived():
                return self._arrive(event)
            case RequestWaits(epoch, request_id, frames):
                return self._wait(epoch, request_id, frames)
            case RequestFinished(epoch, request_id):
                return self._finish(epoch, request_id)
            case RequestFailed(epoch, request_id, error):
                self._running = None
                return [*self._fail(epoch, (request_id,), error), *self._next()]
            case Submitted(epoch, request_id):
                return self._submit(epoch, request_id)
            case RequestLost(epoch, request_id, error):
                return [*self._fail(epoch, (request_id,), error), *self._next()]
            case RequestAbandoned(epoch, request_id):
                return [*self._abandon(epoch, request_id), *self._next()]
            case EpochOpened():
                schedule = Schedule(
                    event.receives, max_active=event.max_active, early_limit_bytes=event.early_limit_bytes
                )
                self._epochs[event.epoch] = _Epoch(event, schedule)
                return []
            case EpochDrains(epoch, error):
                self._refuse(epoch, error)
                return []
            case EpochBroken(epoch, error):
                self._refuse(epoch, error)
                return [*self._fail(epoch, self.pending(epoch), error), *self._next()]
            case EpochClosed(epoch):
                drops = [DropRequest(epoch, request_id) for request_id in self.pending(epoch)]
                self._epochs.pop(epoch, None)
                return [*drops]

    def validate(self) -> None:
        for epoch, entry in self._epochs.items():
            assert epoch == entry.opened.epoch
            entry.schedule.validate()
        if self._running is not None:
            epoch, request_id = self._running
            if self.is_pending(epoch, request_id):
                assert not self.waits_for(epoch, request_id), f"{self._running} runs and waits"
        else:
            runnable = [epoch for epoch, entry in self._epochs.items() if entry.schedule.can_go_on]
            assert not runnable, f"nothing runs although requests of {runnable} could"

    # Requests.

    def _submit(self, epoch: int, request_id: int) -> list[RankInstruction]:
        entry = self._epochs.get(epoch)
        if entry is None:
            raise StalePlanError(f"epoch {epoch} is not open")
        if entry.refusal is not None:
            raise entry.refusal
        entry.schedule.add(request_id)
        return self._next()

    def _arrive(self, event: FrameArrived) -> list[RankInstruction]:
        epoch, request_id = event.epoch, event.request_id
        entry = self._epochs.get(epoch)
        if entry is None:
            raise StalePlanError(f"epoch {epoch} takes no frames")
        schedule = entry.schedule
        if not schedule.is_pending(request_id) and not schedule.has_ended(request_id):
            if entry.opened.is_announced:
                raise CodecError(f"epoch {epoch}: request {request_id} was not submitted")
            refusal = self._refusal(epoch, entry)
            if refusal is not None:
                return [Discard("refused"), *self._fail(epoch, (request_id,), refusal)]
        arrival = schedule.arrive(request_id, event.frame, event.num_bytes)
        if arrival is Arrival.KEEP:
            return [Keep(), *self._next()]
        if arrival is Arrival.UNEXPECTED:
            raise CodecError(f"epoch {epoch}: no frame {event.frame.tag} from rank {event.frame.peer} is due")
        if arrival is Arrival.OVERLOADED:
            error = WorkerOverloadedError(
                f"epoch {epoch}: {schedule.early_bytes:,} bytes are kept for requests that have not begun; "
                f"{event.num_bytes:,} more would exceed {entry.opened.early_limit_bytes:,}"
            )
            return [Discard("overloaded"), *self._fail(epoch, (request_id,), error)]
        return [Discard(arrival.value)]

    def _refusal(self, epoch: int, entry: _Epoch) -> EdgeflowError | None:
        """Why a new request cannot be run, if it cannot."""
        if entry.refusal is not None:
            return entry.refusal
        limit = entry.opened.max_pending
        if entry.schedule.num_pending >= limit:
            return WorkerOverloadedError(f"epoch {epoch} has {limit} requests that have not ended")
        return None

    def _wait(self, epoch: int, request_id: int, frames: tuple[FrameKey, ...]) -> list[RankInstruction]:
        self._running = None
        entry = self._epochs.get(epoch)
        # It may have ended while it ran; the thread will find its `DropRequest`.
        if entry is not None and entry.schedule.is_pending(request_id):
            entry.schedule.wait(request_id, frames)
        return self._next()

    def _finish(self, epoch: int, request_id: int) -> list[RankInstruction]:
        self._running = None
        if not self.is_pending(epoch, request_id):
            return self._next()
        self._epochs[epoch].schedule.end(request_id)
        return [FinishRequest(epoch, request_id), DropRequest(epoch, request_id), *self._next()]

    def _fail(self, epoch: int, request_ids: Iterable[int], error: Exception) -> list[RankInstruction]:
        entry = self._epochs.get(epoch)
        if entry is None:
            return []
        instructions: list[RankInstruction] = []
        for request_id in request_ids:
            if self._can_end(entry, request_id):
                entry.schedule.end(request_id)
                instructions += [FailRequest(epoch, request_id, error), DropRequest(epoch, request_id)]
        return instructions

    def _abandon(self, epoch: int, request_id: int) -> list[RankInstruction]:
        entry = self._epochs.get(epoch)
        if entry is None or not self._can_end(entry, request_id):
            return []
        was_pending = entry.schedule.is_pending(request_id)
        entry.schedule.end(request_id)
        return [DropRequest(epoch, request_id)] if was_pending else []

    def _can_end(self, entry: _Epoch, request_id: int) -> bool:
        """A request that no frame has announced yet may end too: frames that come later are then late."""
        schedule = entry.schedule
        if entry.opened.is_announced:
            return schedule.is_pending(request_id)
        return not schedule.has_ended(request_id)

    def _refuse(self, epoch: int, error: EdgeflowError) -> None:
        entry = self._epochs.get(epoch)
        if entry is not None and entry.refusal is None:
            entry.refusal = error

    def _next(self) -> list[RankInstruction]:
        """Let the thread run a request that can go on, if it has nothing to do."""
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
