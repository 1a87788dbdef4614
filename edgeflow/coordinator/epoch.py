"""One epoch of a session: one way to answer requests, on its workers, and the requests that go this way.

The outer ring of `edgeflow.coordinator.requests`: it holds the connections, and runs the client's own
program. All methods but `open`, `close`, `reports` and `trace` are called with the session's lock held, which
the epochs of a session share, as they share its thread and its transport.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from edgeflow.coordinator import requests as r
from edgeflow.coordinator.client import Description, Report
from edgeflow.coordinator.rollout import CONNECT_TIMEOUT_S, ContentTable, Rollout
from edgeflow.cost.timeline import trace_event
from edgeflow.errors import (
    CodecError,
    EdgeflowError,
    PeerLostError,
    StalePlanError,
    WorkerOutOfMemoryError,
    WorkerUnreachableError,
)
from edgeflow.graph.ir import Array
from edgeflow.net.proof import prove
from edgeflow.net.rpc_errors import decode_description, rebuild
from edgeflow.net.security import Access
from edgeflow.net.transport.base import Connection, Transport
from edgeflow.net.wire import Frame, Header, Kind
from edgeflow.plan import Decision
from edgeflow.plan.program import CLIENT, Send
from edgeflow.rank import interpreter
from edgeflow.rank.runner import RequestKey, Runner
from edgeflow.rank.schedule import FrameKey
from edgeflow.telemetry.trace import TraceEvent

logger = logging.getLogger(__name__)

#: Requests of one epoch under way at once; the rest wait their turn.
MAX_IN_FLIGHT: Final = 8

#: Finished requests whose own records (the client's) are kept for `Epoch.trace`.
_MAX_RECORDS: Final = 512

#: A worker may still be writing down the end of a request when its answer is here already.
_TRACE_WAIT_S: Final = 1.0

#: What a worker says of a request that is true of every request of the epoch.
_TROUBLE: Final = (WorkerUnreachableError, StalePlanError, WorkerOutOfMemoryError)

#: Position of an instruction, when it began, when it ended.
_Record = tuple[int, float, float]


class Owner(Protocol):
    """The session, as its epochs see it; called with the lock held."""

    def on_answered(self, epoch: int, request_id: int, outputs: dict[str, Array], seconds: float) -> None:
        """A request is answered."""

    def on_failed(self, epoch: int, request_id: int, error: Exception) -> None:
        """A request is not answered here."""

    def on_trouble(self, epoch: int, rank: int, error: EdgeflowError) -> None:
        """A worker is lost, or says what makes the epoch of no use any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """What the epochs of a session share.

    Attributes:
        lock: Guards everything in the session and its epochs.
        choice: What carries frames; see `edgeflow.net.transport.routes`.
        access: What is shown to the workers.
    """

    owner: Owner
    lock: threading.RLock
    runner: Runner
    transport: Transport
    choice: str
    access: Access | None


@dataclass(slots=True)
class _Request:
    """One request that goes this way; its number on the wire is the epoch's own, and only grows."""

    request_id: int
    inputs: Mapping[str, Array]
    started_s: float = 0.0
    outputs: dict[str, Array] | None = None


class Epoch:
    """One way to answer requests.

    Args:
        plan: A plan without replicas.
        number: Of the epoch; no other deployment has it.
        addresses: Rank -> address of every worker that takes part.
        contents: Of the plan's graph.
        timeout_s: Of each control call.
        connect_timeout_s: Until a worker answers at all.
    """

    def __init__(
        self,
        plan: Decision,
        number: int,
        addresses: Mapping[int, str],
        *,
        shared: Shared,
        contents: ContentTable,
        timeout_s: float,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
    ) -> None:
        self.plan = plan
        self.number = number
        self.addresses = addresses
        self._shared = shared
        self._connect_timeout_s = min(timeout_s, connect_timeout_s)
        self._program = plan.programs[CLIENT]
        self._receives = {
            key: item for item in self._program.receives for key in interpreter.frame_keys(item)
        }
        self._state = r.RequestsState(
            frozenset(self._receives), timeout_s=timeout_s, max_in_flight=MAX_IN_FLIGHT
        )
        self._numbers = itertools.count(1)
        self._requests: dict[int, _Request] = {}
        self._frames: dict[tuple[int, FrameKey], Array] = {}
        self._records: deque[tuple[int, int, list[_Record]]] = deque(maxlen=_MAX_RECORDS)
        self._connections: dict[int, Connection] = {}
        self._is_closed = False
        self._rollout = Rollout(
            plan,
            number,
            addresses,
            attach=self._attach,
            timeout_s=timeout_s,
            connect_timeout_s=self._connect_timeout_s,
            contents=contents,
            transport=shared.choice,
            access=shared.access,
        )

    def open(self) -> None:
        """Bring the plan onto its workers; when this raises, none of them holds anything of it."""
        try:
            self._rollout.open()
        except BaseException:
            self._is_closed = True
            self._disconnect()
            raise

    def close(self, *, is_idle: bool) -> None:
        """Take the plan off the workers that can be reached."""
        with self._shared.lock:
            if self._is_closed:
                return
            self._is_closed = True
        if not is_idle:
            self._disconnect()  # tells workers that cannot be called any more, and those that hold requests
        self._rollout.close(is_idle=is_idle)
        self._disconnect()

    def device(self, rank: int) -> str:
        """Name of a rank's device."""
        return self.plan.cluster.devices[rank].name

    def rank_of(self, device: str) -> int:
        return next(rank for rank in self.addresses if self.device(rank) == device)

    def is_carrying(self, device: str) -> bool:
        """Whether frames are on their way to or from a device's worker, and arrive."""
        connection = self._connections.get(self.rank_of(device))
        return connection is not None and connection.is_carrying

    @property
    def devices(self) -> tuple[str, ...]:
        """Names of the devices that take part."""
        return tuple(self.device(rank) for rank in sorted(self.addresses))

    @property
    def blamed(self) -> str | None:
        """Name of the device that made `open` fail, if one did."""
        return None if self._rollout.blamed is None else self.device(self._rollout.blamed)

    def interrupt(self, error: EdgeflowError) -> None:
        """Give up `open`, which raises ``error``; may be called from any thread."""
        self._rollout.interrupt(error)

    @property
    def descriptions(self) -> Mapping[int, Description]:
        """Rank -> what its worker has said it is."""
        return self._rollout.descriptions

    @property
    def moved_bytes(self) -> int:
        """Weights that had to travel."""
        return sum(self._rollout.moved_bytes.values())

    @property
    def next_deadline_s(self) -> float | None:
        return self._state.next_deadline_s

    def reports(self, *, min_request_id: int) -> dict[int, Report]:
        """Ask every worker what it has done; requests have their numbers on the wire."""
        return self._rollout.reports(min_request_id=min_request_id)

    def records(self, *, after: set[int], timeout_s: float) -> dict[int, dict[int, list[_Record]]]:
        """Return the records of requests that ended, by rank and request, on this process's clock.

        Args:
            after: Requests that were returned before; those that are returned now are added.
        """
        with self._shared.lock:
            own = {number: records for number, _, records in self._records if number not in after}
        if not own:
            return {}
        found: dict[int, dict[int, list[_Record]]] = {CLIENT: own}
        for rank, report in self._rollout.reports(
            min_request_id=min(own), timeout_s=timeout_s, is_patient=False
        ).items():
            offset_s = self.descriptions[rank].clock_offset_s
            found[rank] = {
                number: [(position, start - offset_s, stop - offset_s) for position, start, stop in items]
                for number, items in report.requests.items()
                if number in own
            }
        after.update(own)
        return found

    def trace(self, started_s: float) -> list[TraceEvent]:
        """Return what every rank did and when, for all finished requests that are remembered.

        Args:
            started_s: What is called 0, on this process's clock.
        """
        with self._shared.lock:
            own = {number: records for number, _, records in self._records}
            request_ids = {number: request_id for number, request_id, _ in self._records}
        parts: list[tuple[int, float, Mapping[int, list[_Record]]]] = [(CLIENT, 0.0, own)]
        for rank, requests in self._reports_of(set(own)).items():
            parts.append((rank, self.descriptions[rank].clock_offset_s, requests))
        events = []
        for rank, offset_s, requests in parts:
            instructions = self.plan.programs[rank].instructions
            shift_s = offset_s + started_s
            for number, items in requests.items():
                if number not in request_ids:
                    continue
                for position, start_s, stop_s in items:
                    event = trace_event(
                        rank,
                        instructions[position],
                        start_s - shift_s,
                        stop_s - shift_s,
                        request=request_ids[number],
                    )
                    if event is not None:
                        events.append(event)
        return events

    def _reports_of(self, finished: set[int]) -> dict[int, Mapping[int, list[_Record]]]:
        deadline_s = time.monotonic() + _TRACE_WAIT_S
        while True:
            reports = self.reports(min_request_id=min(finished, default=0))
            is_complete = all(finished <= set(report.requests) for report in reports.values())
            if is_complete or time.monotonic() > deadline_s:
                return {rank: report.requests for rank, report in reports.items()}
            time.sleep(0.01)

    # What the session says; the lock is held.

    def begin(self, request_id: int, inputs: Mapping[str, Array], deadline_s: float) -> None:
        """Begin a request; the owner hears what becomes of it."""
        number = next(self._numbers)
        self._requests[number] = _Request(request_id, inputs)
        try:
            self._handle(r.Submitted(number, deadline_s))
        except EdgeflowError as error:
            del self._requests[number]
            self._shared.owner.on_failed(self.number, request_id, error)

    def cancel(self, request_id: int) -> None:
        """Forget a request, here and on the workers."""
        number = next((n for n, item in self._requests.items() if item.request_id == request_id), None)
        if number is not None:
            self._handle(r.RequestAbandoned(number))

    def tick(self) -> None:
        self._handle(r.Tick())

    # What the runner says; the lock is held.

    def on_wait(self, number: int, frames: tuple[FrameKey, ...]) -> None:
        self._handle(r.RequestWaits(number, frames))

    def on_finish(self, number: int, outputs: dict[str, Array]) -> None:
        if number in self._requests:
            self._requests[number].outputs = outputs
        self._handle(r.RequestFinished(number))

    def on_error(self, number: int, error: Exception) -> None:
        self._handle(r.RequestFailed(number, error))

    # What the transport says; the lock is not held.

    def admit(self, rank: int, header: Header) -> None:
        if header.epoch != self.number or header.source != rank:
            raise CodecError(
                f"rank {rank} sent a frame of rank {header.source} of epoch {header.epoch}, not {self.number}"
            )
        if header.kind is Kind.FAILURE:
            return
        expected = self._receives.get(FrameKey(rank, header.tag))
        if header.kind is not Kind.TENSOR or expected is None:
            raise CodecError(f"rank {rank} sent a {header.kind.name} {header.tag}, which is not due")
        interpreter.check_due(header, expected)

    def on_frame(self, rank: int, frame: Frame) -> None:
        with self._shared.lock:
            if self._is_closed:
                return
            if frame.kind is Kind.FAILURE:
                error = rebuild(decode_description(frame.array.tobytes()), where=self.where(rank))
                if isinstance(error, _TROUBLE):
                    self._shared.owner.on_trouble(self.number, rank, error)
                self._handle(r.FailureArrived(frame.request_id, error))
                return
            key = FrameKey(rank, frame.tag)
            self._handle(r.FrameArrived(frame.request_id, key, frame.array.nbytes), frame.array)

    def on_lost(self, rank: int, error: EdgeflowError | None) -> None:
        reason = "it closed the connection" if error is None else str(error)
        lost: EdgeflowError = WorkerUnreachableError(f"{self.where(rank)} was lost: {reason}")
        if isinstance(error, CodecError):
            # It is there, and what it sends is not what should come.
            lost = PeerLostError(str(lost), rank=CLIENT, peer=rank, is_broken=True)
        with self._shared.lock:
            if self._is_closed:
                return
            logger.warning("worker.lost", extra={"rank": rank, "reason": reason})
            # First the session, which begins its requests elsewhere; then there is nothing left to fail here.
            self._shared.owner.on_trouble(self.number, rank, lost)
            self._handle(r.WorkerLost(rank, lost))

    def where(self, rank: int) -> str:
        return f"worker {self.addresses[rank]} (rank {rank})"

    # Carrying out instructions; the lock is held.

    def _handle(self, event: r.RequestEvent, array: Array | None = None) -> None:
        for instruction in self._state.handle(event, time.monotonic()):
            match instruction:
                case r.StartRequest(number):
                    self._requests[number].started_s = time.monotonic()
                    self._shared.runner.start(self._key(number), self._run(number))
                case r.Keep():
                    assert isinstance(event, r.FrameArrived) and array is not None
                    self._frames[event.request_id, event.frame] = array
                case r.Discard(reason):
                    logger.debug("frame.discarded", extra={"reason": reason})
                case r.Deliver(number, key):
                    self._shared.runner.resume(self._key(number), key, self._frames.pop((number, key)))
                case r.AnswerRequest(number):
                    request = self._requests.pop(number)
                    assert request.outputs is not None
                    self._shared.owner.on_answered(
                        self.number,
                        request.request_id,
                        request.outputs,
                        time.monotonic() - request.started_s,
                    )
                case r.FailRequest(number, error):
                    failed = self._requests.pop(number, None)
                    if failed is not None:
                        self._shared.owner.on_failed(self.number, failed.request_id, error)
                case r.CancelRequest(number):
                    self._cancel(number)

    def _cancel(self, number: int) -> None:
        self._requests.pop(number, None)
        for key in [key for key in self._frames if key[0] == number]:
            del self._frames[key]
        self._shared.runner.drop(self._key(number))
        frame = Frame(kind=Kind.CANCEL, epoch=self.number, source=CLIENT, request_id=number)
        for connection in self._connections.values():
            try:
                connection.send(frame)
            except WorkerUnreachableError:
                logger.debug("cancel.lost", extra={"request": number})

    def _run(self, number: int) -> interpreter.Running:
        request_id, inputs = self._requests[number].request_id, self._requests[number].inputs
        records: list[_Record] = []

        def send(instruction: Send, array: Array) -> None:
            self._connections[instruction.peer].send(
                Frame(
                    kind=Kind.TENSOR,
                    epoch=self.number,
                    source=CLIENT,
                    request_id=number,
                    tag=instruction.tag,
                    array=array,
                )
            )

        def record(position: int, start_s: float, stop_s: float) -> None:
            records.append((position, start_s, stop_s))

        def running() -> interpreter.Running:
            outputs = yield from interpreter.run(
                _NoKernels(), self._program, inputs, send=send, record=record
            )
            with self._shared.lock:
                self._records.append((number, request_id, records))
            return outputs

        return running()

    def _key(self, number: int) -> RequestKey:
        return (self.number, number)

    # Connections.

    def _attach(self, rank: int) -> None:
        connection = self._shared.transport.dial(
            self._rollout.routes[rank],
            prove(self._rollout.key, self.number, source=CLIENT, target=rank),
            _WorkerHandler(self, rank),
            timeout_s=self._connect_timeout_s,
        )
        with self._shared.lock:
            self._connections[rank] = connection

    def _disconnect(self) -> None:
        for connection in tuple(self._connections.values()):
            connection.close()


class _WorkerHandler:
    """The client's end of the connection with one worker."""

    def __init__(self, epoch: Epoch, rank: int) -> None:
        self._epoch = epoch
        self._rank = rank

    def admit(self, header: Header) -> None:
        self._epoch.admit(self._rank, header)

    def on_frame(self, frame: Frame) -> None:
        self._epoch.on_frame(self._rank, frame)

    def on_lost(self, error: EdgeflowError | None) -> None:
        self._epoch.on_lost(self._rank, error)


class _NoKernels:
    """The client sends, receives and assembles; it computes nothing."""

    def compute(self, instruction_index: int, buffers: dict[int, Array]) -> None:
        raise AssertionError(f"the client's program computes at instruction {instruction_index}")
