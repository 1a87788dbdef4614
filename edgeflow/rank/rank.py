"""A rank: the shell around a state machine that decides about requests.

It holds what the decisions are about (programs, connections, payloads, the thread that runs requests) and
carries the decisions out. The worker and the client of a plan each put a thin shell of their own around it:
`edgeflow.worker.worker` adds how programs come and go, `edgeflow.coordinator.client_rank` adds how requests
come and go.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Protocol

import numpy as np

from edgeflow.errors import CodecError, EdgeflowError, StalePlanError, WorkerUnreachableError
from edgeflow.graph.ir import Array
from edgeflow.kernels.base import Runnable
from edgeflow.net.stream import Allocate
from edgeflow.net.transport.base import Connection, Handler
from edgeflow.net.wire import Frame, Header, Kind
from edgeflow.plan.program import Program, Receive, Send
from edgeflow.rank import events as r
from edgeflow.rank import interpreter
from edgeflow.rank.runner import RequestKey, Runner
from edgeflow.rank.schedule import FrameKey
from edgeflow.threads import SYSTEM, Lock, Threads

logger = logging.getLogger(__name__)

#: Records of finished requests that are kept per epoch until somebody asks for them.
MAX_RECORDS: Final = 512

_NO_INPUTS: Final[Mapping[str, Array]] = {}


class InstructionRecord(NamedTuple):
    """When the instruction at one position of the program ran, in seconds of the rank's clock."""

    position: int
    start_s: float
    stop_s: float


#: The records of a finished request, by its id.
RequestRecords = tuple[int, list[InstructionRecord]]


class Decides(Protocol):
    """The state machine of a rank: `RankState`, or one that is built around it."""

    def handle(self, event: Any) -> Sequence[object]:
        """Return instructions: those of a rank, and any that the owner carries out."""


class Owner(Protocol):
    """What a worker or the client adds to a rank; called with the lock held unless said otherwise."""

    def on_finished(self, epoch: int, request_id: int, outputs: dict[str, Array]) -> None:
        """A request has run to the end of the program."""

    def on_failed(self, epoch: int, request_id: int, error: Exception) -> None:
        """A request has failed."""

    def on_dropped(self, epoch: int, request_id: int) -> None:
        """A request has ended, and nothing is held for it any more."""

    def carry_out(self, instruction: object) -> None:
        """Carry out an instruction that is not one of `edgeflow.rank.events`."""

    def admits(self, kind: Kind, peer: int) -> bool:
        """Whether a peer may send a frame of this kind, other than a tensor."""

    def on_notice(self, epoch: int, peer: int, frame: Frame) -> None:
        """A frame has arrived that is no tensor; the lock is not held."""

    def on_lost(self, epoch: int, peer: int, error: EdgeflowError | None) -> None:
        """A connection has ended; the lock is not held."""


@dataclass(slots=True)
class _Epoch:
    program: Program
    receives: Mapping[FrameKey, Receive]
    runnable: Runnable | None = None
    connections: dict[int, Connection] = field(default_factory=dict)
    #: Payloads by request, of frames that were not delivered yet.
    frames: dict[int, dict[FrameKey, Array]] = field(default_factory=dict)
    inputs: dict[int, Mapping[str, Array]] = field(default_factory=dict)
    outputs: dict[int, dict[str, Array]] = field(default_factory=dict)
    records: deque[RequestRecords] = field(default_factory=deque)
    num_dropped_records: int = 0


class Rank:
    """Runs the programs of one rank.

    Args:
        machine: Decides.
        owner: Is told what becomes of requests.
        lock: Guards the machine and everything here; the owner shares it.
        name: Of the thread that runs requests.
        speed: Below 1, a slower device is emulated.
        empty: Makes the arrays that parts of tensors are put together in.
        tick: Called now and then on the thread; see `Runner`.
    """

    def __init__(
        self,
        machine: Decides,
        owner: Owner,
        *,
        lock: Lock,
        name: str,
        speed: float = 1.0,
        empty: Allocate = np.empty,
        threads: Threads = SYSTEM,
        tick: Callable[[], float | None] = lambda: None,
    ) -> None:
        self._machine = machine
        self._owner = owner
        self._lock = lock
        self._speed = speed
        self._empty = empty
        self._threads = threads
        self._epochs: dict[int, _Epoch] = {}
        self._runner = Runner(name, self, threads=threads, tick=tick)

    # Epochs; the lock is held.

    def open(self, epoch: int, program: Program, *, runnable: Runnable | None = None) -> None:
        """Hold a program; what runs its kernels may follow by `load`."""
        self._epochs[epoch] = _Epoch(program, interpreter.receives_of(program), runnable)

    def load(self, epoch: int, runnable: Runnable) -> None:
        self._epochs[epoch].runnable = runnable

    def attach(self, epoch: int, peer: int, connection: Connection) -> None:
        """Use a connection for the frames of an epoch to a peer."""
        self._epochs[epoch].connections[peer] = connection

    def connection(self, epoch: int, peer: int) -> Connection | None:
        entry = self._epochs.get(epoch)
        return None if entry is None else entry.connections.get(peer)

    def connections(self, epoch: int) -> tuple[Connection, ...]:
        entry = self._epochs.get(epoch)
        return () if entry is None else tuple(entry.connections.values())

    def free(self, epoch: int) -> None:
        """Forget an epoch and close its connections."""
        for connection in self._epochs.pop(epoch).connections.values():
            connection.close()

    def records(self, epoch: int) -> tuple[list[RequestRecords], int]:
        """Return the records of finished requests, oldest first, and how many were dropped."""
        entry = self._epochs[epoch]
        return list(entry.records), entry.num_dropped_records

    # Requests.

    def submit(self, epoch: int, request_id: int, inputs: Mapping[str, Array]) -> None:
        """Begin a request of this rank's own, when there is room for it; the lock is held.

        Raises:
            EdgeflowError: Why no request is taken.
        """
        entry = self._epochs.get(epoch)
        if entry is None:
            raise StalePlanError(f"epoch {epoch} is not open")
        entry.inputs[request_id] = inputs
        try:
            self.handle(r.Submitted(epoch, request_id))
        except EdgeflowError:
            del entry.inputs[request_id]
            raise

    def handle(self, event: object, array: Array | None = None) -> None:
        """Let the machine decide, and carry out what it says; the lock is held.

        Args:
            event: One of the machine's.
            array: The payload, if a frame has arrived.
        """
        for instruction in self._machine.handle(event):
            self._carry_out(instruction, event, array)

    def call(self, function: Callable[[], None]) -> None:
        """Do something else on the thread that runs requests; it must not raise."""
        self._runner.call(function)

    def close(self) -> None:
        """Forget every request and end the thread."""
        self._runner.close()

    # What the transport calls; the lock is not held.

    def handler(self, epoch: int, peer: int) -> Handler:
        """Return the owner of this end of a connection with a peer."""
        return _PeerHandler(self, epoch, peer)

    def admit(self, epoch: int, peer: int, header: Header) -> None:
        """Check a header against the program, before its payload is allocated."""
        if header.epoch != epoch or header.source != peer:
            raise CodecError(
                f"rank {peer} of epoch {epoch} sent a frame of rank {header.source} of epoch {header.epoch}"
            )
        if header.kind is not Kind.TENSOR:
            if not self._owner.admits(header.kind, peer):
                raise CodecError(f"rank {peer} sent a {header.kind.name}, which is not due")
            return
        entry = self._epochs.get(epoch)
        if entry is None:
            raise StalePlanError(f"epoch {epoch} is not held here")
        expected = entry.receives.get(FrameKey(peer, header.tag))
        if expected is None:
            raise CodecError(f"no frame {header.tag} from rank {peer} is due")
        interpreter.check_due(header, expected)

    def on_frame(self, epoch: int, peer: int, frame: Frame) -> None:
        if frame.kind is not Kind.TENSOR:
            self._owner.on_notice(epoch, peer, frame)
            return
        key = FrameKey(peer, frame.tag)
        with self._lock:
            self.handle(r.FrameArrived(epoch, frame.request_id, key, frame.array.nbytes), frame.array)

    def on_lost(self, epoch: int, peer: int, error: EdgeflowError | None) -> None:
        self._owner.on_lost(epoch, peer, error)

    # What the runner calls.

    def on_wait(self, key: RequestKey, frames: tuple[FrameKey, ...]) -> None:
        with self._lock:
            self.handle(r.RequestWaits(*key, frames))

    def on_finish(self, key: RequestKey, outputs: dict[str, Array]) -> None:
        epoch, request_id = key
        with self._lock:
            entry = self._epochs.get(epoch)
            if entry is not None:
                entry.outputs[request_id] = outputs
            self.handle(r.RequestFinished(epoch, request_id))
            if entry is not None:
                entry.outputs.pop(request_id, None)

    def on_error(self, key: RequestKey, error: Exception) -> None:
        if not isinstance(error, EdgeflowError):
            logger.error("request.failed", exc_info=error, extra={"epoch": key[0], "request": key[1]})
        with self._lock:
            self.handle(r.RequestFailed(*key, error))

    # Carrying out instructions; the lock is held.

    def _carry_out(self, instruction: object, event: object, array: Array | None) -> None:
        match instruction:
            case r.Keep():
                assert isinstance(event, r.FrameArrived) and array is not None
                frames = self._epochs[event.epoch].frames
                frames.setdefault(event.request_id, {})[event.frame] = array
            case r.Discard(reason):
                logger.debug("frame.discarded", extra={"reason": reason})
            case r.StartRequest(epoch, request_id):
                self._runner.start((epoch, request_id), self._run(epoch, request_id))
            case r.Deliver(epoch, request_id, key):
                payload = self._epochs[epoch].frames[request_id].pop(key)
                self._runner.resume((epoch, request_id), key, payload)
            case r.FinishRequest(epoch, request_id):
                self._owner.on_finished(epoch, request_id, self._epochs[epoch].outputs.pop(request_id))
            case r.FailRequest(epoch, request_id, error):
                self._owner.on_failed(epoch, request_id, error)
            case r.DropRequest(epoch, request_id):
                self._drop(epoch, request_id)
            case _:
                self._owner.carry_out(instruction)

    def _drop(self, epoch: int, request_id: int) -> None:
        entry = self._epochs.get(epoch)
        if entry is not None:
            entry.frames.pop(request_id, None)
            entry.inputs.pop(request_id, None)
        self._runner.drop((epoch, request_id))
        self._owner.on_dropped(epoch, request_id)

    def _run(self, epoch: int, request_id: int) -> interpreter.Running:
        entry = self._epochs[epoch]
        assert entry.runnable is not None
        records: list[InstructionRecord] = []
        program, rank = entry.program, entry.program.rank
        running = interpreter.run(
            entry.runnable,
            program,
            entry.inputs.get(request_id, _NO_INPUTS),
            send=_sender(entry, epoch, rank, request_id),
            record=lambda position, start_s, stop_s: records.append(
                InstructionRecord(position, start_s, stop_s)
            ),
            speed=self._speed,
            empty=self._empty,
            clock=self._threads,
        )
        return self._recorded(entry, request_id, records, running)

    def _recorded(
        self,
        entry: _Epoch,
        request_id: int,
        records: list[InstructionRecord],
        running: interpreter.Running,
    ) -> interpreter.Running:
        """Run a request, and keep when its instructions ran if it comes to the end."""
        outputs = yield from running
        with self._lock:
            entry.records.append((request_id, records))
            if len(entry.records) > MAX_RECORDS:
                entry.records.popleft()
                entry.num_dropped_records += 1
        return outputs


def _sender(entry: _Epoch, epoch: int, rank: int, request_id: int) -> interpreter.SendFunction:
    """Return what sends the frames of one request."""

    def send(instruction: Send, array: Array) -> None:
        connection = entry.connections.get(instruction.peer)
        if connection is None:
            raise WorkerUnreachableError(f"no connection with rank {instruction.peer}")
        connection.send(
            Frame(
                kind=Kind.TENSOR,
                epoch=epoch,
                source=rank,
                request_id=request_id,
                tag=instruction.tag,
                array=array,
            )
        )

    return send


class _PeerHandler:
    """One end of a connection with a peer."""

    def __init__(self, rank: Rank, epoch: int, peer: int) -> None:
        self._rank = rank
        self._epoch = epoch
        self._peer = peer

    def admit(self, header: Header) -> None:
        self._rank.admit(self._epoch, self._peer, header)

    def on_frame(self, frame: Frame) -> None:
        self._rank.on_frame(self._epoch, self._peer, frame)

    def on_lost(self, error: EdgeflowError | None) -> None:
        self._rank.on_lost(self._epoch, self._peer, error)
