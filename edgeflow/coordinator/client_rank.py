"""The client of a session as a rank: it submits requests on epochs, and hears how they end."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from edgeflow.coordinator.requests import ClientState, Expected, Tick
from edgeflow.errors import (
    CodecError,
    EdgeflowError,
    PeerLostError,
    StalePlanError,
    WorkerOutOfMemoryError,
    WorkerUnreachableError,
)
from edgeflow.graph.ir import Array
from edgeflow.incident import save_incident
from edgeflow.net.rpc_errors import decode_description, rebuild
from edgeflow.net.transport.base import Connection, Handler
from edgeflow.net.wire import Frame, Kind
from edgeflow.plan.program import CLIENT, Program
from edgeflow.rank.events import EpochBroken, EpochClosed, EpochOpened, RequestAbandoned, RequestLost
from edgeflow.rank.interpreter import receives_of
from edgeflow.rank.rank import MAX_RECORDS, InstructionRecord, Rank
from edgeflow.threads import Lock, Threads

logger = logging.getLogger(__name__)

#: Requests of one epoch under way at once; the rest wait their turn.
MAX_IN_FLIGHT: Final = 8

#: Failures of a request that concern every request of its epoch.
_TROUBLE: Final = (WorkerUnreachableError, StalePlanError, WorkerOutOfMemoryError)


class Owner(Protocol):
    """The session, as its client rank sees it; called with the lock held."""

    def on_answered(self, epoch: int, request_id: int, outputs: dict[str, Array], seconds: float) -> None:
        """A request is answered."""

    def on_failed(self, epoch: int, request_id: int, error: Exception) -> None:
        """A request is not answered on this epoch."""

    def on_trouble(self, epoch: int, rank: int, error: EdgeflowError) -> None:
        """A worker is lost, or reports a failure that makes the epoch useless."""


@dataclass(slots=True)
class _Request:
    request_id: int
    started_s: float
    is_answered: bool = False


@dataclass(slots=True)
class _Epoch:
    """Requests by their number on the wire, which is the epoch's own and only grows.

    A request that begins again elsewhere may be older than those that were begun there, and every rank must
    meet requests in one order.
    """

    where: Callable[[int], str]
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    requests: dict[int, _Request] = field(default_factory=dict)
    #: Of all that have records.
    request_ids: dict[int, int] = field(default_factory=dict)
    is_closing: bool = False


class ClientRank:
    """Submits the requests of one session, and cancels them.

    All methods but `handler` and `close` are called with the lock held.

    Args:
        lock: Guards everything in the session.
        tick: Called now and then on the thread that runs the client's programs; see `Runner`.
    """

    def __init__(
        self, owner: Owner, *, lock: Lock, threads: Threads, tick: Callable[[], float | None]
    ) -> None:
        self._owner = owner
        self._lock = lock
        self._threads = threads
        self._epochs: dict[int, _Epoch] = {}
        self._state = ClientState()
        self._rank = Rank(self._state, self, lock=lock, name="edgeflow-client", threads=threads, tick=tick)

    # Epochs.

    def open(self, epoch: int, program: Program, *, where: Callable[[int], str]) -> None:
        """Hold the client's program of an epoch.

        Args:
            where: Rank -> its worker, for messages.
        """
        self._epochs[epoch] = _Epoch(where)
        self._rank.open(epoch, program, runnable=_NoKernels())
        self._rank.handle(
            EpochOpened(
                epoch=epoch,
                receives=frozenset(receives_of(program)),
                is_announced=True,
                max_active=MAX_IN_FLIGHT,
            )
        )

    def attach(self, epoch: int, peer: int, connection: Connection) -> None:
        """Use a connection with a worker, unless the epoch was given up meanwhile."""
        if epoch in self._epochs:
            self._rank.attach(epoch, peer, connection)
        else:
            connection.close()

    def handler(self, epoch: int, peer: int) -> Handler:
        """Return the owner of this end of the connection with a worker."""
        return self._rank.handler(epoch, peer)

    def retire(self, epoch: int) -> None:
        """Take nothing more from an epoch; its pending requests are cancelled, and nobody hears of them."""
        entry = self._epochs.get(epoch)
        if entry is not None and not entry.is_closing:
            self._rank.handle(EpochClosed(epoch))
            entry.is_closing = True

    def free(self, epoch: int) -> None:
        """Close an epoch's connections and forget it; may be called twice."""
        self.retire(epoch)
        if self._epochs.pop(epoch, None) is not None:
            self._rank.free(epoch)

    def is_carrying(self, epoch: int, peer: int) -> bool:
        """Whether frames are on their way to or from a peer, and arrive."""
        connection = self._rank.connection(epoch, peer)
        return connection is not None and connection.is_carrying

    def records(self, epoch: int) -> list[tuple[int, int, list[InstructionRecord]]]:
        """Return number, request id and records of the finished requests that are remembered.

        The ids are those of the latest requests that began: a record that is older than all of them is left
        out.
        """
        entry = self._epochs.get(epoch)
        if entry is None:
            return []
        records, _ = self._rank.records(epoch)
        ids = entry.request_ids
        return [(number, ids[number], items) for number, items in records if number in ids]

    # Requests.

    def begin(self, epoch: int, request_id: int, inputs: Mapping[str, Array], deadline_s: float) -> None:
        """Begin a request on an epoch; the owner hears what becomes of it."""
        entry, now_s = self._epochs[epoch], self._threads.now()
        number = next(entry.numbers)
        entry.requests[number] = _Request(request_id, now_s)
        entry.request_ids[number] = request_id
        while len(entry.request_ids) > MAX_RECORDS + MAX_IN_FLIGHT:
            del entry.request_ids[next(iter(entry.request_ids))]
        self._rank.handle(Expected(epoch, number, deadline_s, now_s))
        try:
            self._rank.submit(epoch, number, inputs)
        except EdgeflowError as error:
            self._state.forget(epoch, number)
            del entry.requests[number]
            self._owner.on_failed(epoch, request_id, error)

    def cancel(self, epoch: int, request_id: int) -> None:
        """Forget a request, here and on the workers."""
        requests = self._epochs[epoch].requests
        number = next((n for n, item in requests.items() if item.request_id == request_id), None)
        if number is not None:
            self._rank.handle(RequestAbandoned(epoch, number))

    def tick(self) -> None:
        self._rank.handle(Tick(self._threads.now()))

    def call(self, function: Callable[[], None]) -> None:
        """Do something else on the thread of the client's programs; it must not raise."""
        self._rank.call(function)

    def save_incident(self, path: Path) -> None:
        save_incident(self._state, path)

    def close(self) -> None:
        """End the thread."""
        self._rank.close()

    # What the rank says.

    def admits(self, kind: Kind, peer: int) -> bool:
        return kind is Kind.FAILURE

    def on_notice(self, epoch: int, peer: int, frame: Frame) -> None:
        """A worker reports a failure: of a request, or of the epoch."""
        with self._lock:
            entry = self._epochs.get(epoch)
            if entry is None or entry.is_closing:
                return
            error = rebuild(decode_description(frame.array.tobytes()), where=entry.where(peer))
            if isinstance(error, _TROUBLE):
                self._owner.on_trouble(epoch, peer, error)
            self._rank.handle(RequestLost(epoch, frame.request_id, error))

    def on_lost(self, epoch: int, peer: int, error: EdgeflowError | None) -> None:
        reason = "it closed the connection" if error is None else str(error)
        with self._lock:
            entry = self._epochs.get(epoch)
            if entry is None or entry.is_closing:
                return
            text = f"{entry.where(peer)} was lost: {reason}"
            lost = WorkerUnreachableError(text)
            if isinstance(error, CodecError):
                # It is up, and sends what should not come.
                lost = PeerLostError(text, rank=CLIENT, peer=peer, is_broken=True)
            logger.warning("worker.lost", extra={"rank": peer, "reason": reason})
            # First the session, which begins its requests elsewhere; then nothing is left to fail here.
            self._owner.on_trouble(epoch, peer, lost)
            self._rank.handle(EpochBroken(epoch, WorkerUnreachableError(f"rank {peer} was lost: {lost}")))

    def on_finished(self, epoch: int, number: int, outputs: dict[str, Array]) -> None:
        request = self._epochs[epoch].requests[number]
        request.is_answered = True
        seconds = self._threads.now() - request.started_s
        self._owner.on_answered(epoch, request.request_id, outputs, seconds)

    def on_failed(self, epoch: int, number: int, error: Exception) -> None:
        self._owner.on_failed(epoch, self._epochs[epoch].requests[number].request_id, error)

    def on_dropped(self, epoch: int, number: int) -> None:
        """Cancel a request on the workers, unless it was answered."""
        request = self._epochs[epoch].requests.pop(number)
        if request.is_answered:
            return
        frame = Frame(kind=Kind.CANCEL, epoch=epoch, source=CLIENT, request_id=number)
        for connection in self._rank.connections(epoch):
            try:
                connection.send(frame)
            except WorkerUnreachableError:
                logger.debug("cancel.lost", extra={"request": number})

    def carry_out(self, instruction: object) -> None:
        raise AssertionError(f"a client does not know {instruction}")


class _NoKernels:
    """The client sends, receives and assembles; it computes nothing."""

    def compute(self, instruction_index: int, buffers: dict[int, Array]) -> None:
        raise AssertionError(f"the client's program computes at instruction {instruction_index}")
