"""The worker's outer ring: threads, connections, the executor. It asks `WorkerState` what to do, and does it.

Nothing here knows gRPC: the servicer calls these methods, a `Transport` brings the frames. One lock guards
the state and the tables beside it; what takes long (compiling, dialling, computing) happens outside of it.
"""

from __future__ import annotations

import contextlib
import logging
import resource
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from edgeflow.errors import (
    CodecError,
    ConfigError,
    EdgeflowError,
    LinkSilentError,
    PeerLostError,
    StalePlanError,
    WorkerUnreachableError,
)
from edgeflow.graph.ir import Array
from edgeflow.kernels.base import Executor, Runnable
from edgeflow.net.content import Content, check_content
from edgeflow.net.proof import check_key, check_proof, prove
from edgeflow.net.rpc_errors import describe, encode_description
from edgeflow.net.transport.base import Connection, Handler, Hello, Transport
from edgeflow.net.wire import Frame, Header, Kind
from edgeflow.plan.program import CLIENT, Program, Receive, Send
from edgeflow.rank import interpreter
from edgeflow.rank.pages import PagePool
from edgeflow.rank.runner import RequestKey, Runner
from edgeflow.rank.schedule import FrameKey
from edgeflow.sharding.region import Region
from edgeflow.worker import events as e
from edgeflow.worker.check import buffer_bytes, check_program, peers_of, receives, weight_bytes
from edgeflow.worker.probe import MAX_PROBE_S, probe_s
from edgeflow.worker.state import EpochStatus, WorkerState, failed
from edgeflow.worker.weights import WeightCache, Writer

logger = logging.getLogger(__name__)

#: Records of finished requests that are kept per epoch until somebody asks for them.
MAX_RECORDS: Final = 512

#: What a failure notice names that is about no request; requests are counted from 1.
NO_REQUEST: Final = 0

#: Share of the memory limit that frames of requests which have not begun may take, per epoch.
EARLY_SHARE: Final = 0.25


class InstructionRecord(NamedTuple):
    """When the instruction at one position of the program ran, in seconds of ``time.monotonic``."""

    position: int
    start_s: float
    stop_s: float


class Chunk(NamedTuple):
    """A part of a weight slice on its way in."""

    content_hash: str
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparation:
    """A program that somebody wants to run here.

    Attributes:
        contents: What the program's weight slices are, in its order.
        peers: Rank -> address of every worker that takes part.
        key: Of the epoch; connections prove that they belong to it.
    """

    epoch: int
    fingerprint: str
    rank: int
    program: Program
    peers: Mapping[int, str]
    contents: tuple[Content, ...]
    key: bytes = field(repr=False)


@dataclass(slots=True)
class _Epoch:
    preparation: Preparation
    receives: Mapping[FrameKey, Receive]
    runnable: Runnable | None = None
    connections: dict[int, Connection] = field(default_factory=dict)
    frames: dict[tuple[int, FrameKey], Array] = field(default_factory=dict)
    records: deque[tuple[int, list[InstructionRecord]]] = field(default_factory=deque)
    num_dropped: int = 0


class Worker:
    """Runs programs for coordinators.

    Args:
        executor: The back end.
        transport: How to reach peers.
        cache: Where weights are kept.
        memory_limit_bytes: What weights and buffers may take.
        speed: Below 1, a slower device is emulated.
        pool: Where buffers come from.
    """

    def __init__(
        self,
        *,
        executor: Executor,
        transport: Transport,
        cache: WeightCache,
        memory_limit_bytes: int,
        speed: float = 1.0,
        pool: PagePool | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not 0 < speed <= 1:
            raise ConfigError(f"speed must be above 0 and at most 1, got {speed:g}")
        self.executor = executor
        self.instance = secrets.token_hex(8)
        self.memory_limit_bytes = memory_limit_bytes
        self.speed = speed
        self.pool = pool or PagePool()
        self._transport = transport
        self._cache = cache
        self._clock = clock
        self._state = WorkerState(
            memory_limit_bytes=memory_limit_bytes, early_limit_bytes=int(memory_limit_bytes * EARLY_SHARE)
        )
        self._epochs: dict[int, _Epoch] = {}
        self._lock = threading.RLock()
        self._runner = Runner("edgeflow-executor", self)

    # Control: what the servicer calls.

    def status(self) -> tuple[EpochStatus, ...]:
        with self._lock:
            return self._state.status()

    def prepare(self, preparation: Preparation) -> tuple[str, ...]:
        """Check and reserve; return the hashes of the weights that are not here."""
        program = preparation.program
        check_program(
            program,
            rank=preparation.rank,
            peers=preparation.peers,
            memory_limit_bytes=self.memory_limit_bytes,
        )
        self._check_contents(preparation)
        check_key(preparation.key)
        event = e.PrepareRequested(
            epoch=preparation.epoch,
            rank=preparation.rank,
            receives=frozenset(receives(program)),
            peers=peers_of(program),
            weight_bytes=weight_bytes(program),
            peak_bytes=buffer_bytes(program),
            now_s=self._clock(),
        )
        with self._lock:
            self._handle(event)
            self._epochs[preparation.epoch] = _Epoch(preparation, receives(program))
        logger.info(
            "epoch.prepared",
            extra={"epoch": preparation.epoch, "rank": preparation.rank, "plan": preparation.fingerprint},
        )
        missing = [content for content in preparation.contents if not self._cache.has(content)]
        return tuple(dict.fromkeys(content.content_hash for content in missing))

    def load(self, epoch: int, chunks: Iterable[Chunk]) -> int:
        """Take missing weights, then compile; return how many bytes came."""
        preparation = self._get(epoch).preparation
        received = self._receive_weights(preparation, chunks)
        by_hash = {c.content_hash: c for c in preparation.contents}
        arrays = {name: self._cache.load(content) for name, content in by_hash.items()}
        weights: dict[tuple[str, Region], Array] = {
            (item.tensor, item.region): arrays[content.content_hash]
            for item, content in zip(preparation.program.weights, preparation.contents, strict=True)
        }
        hashes = {
            (item.tensor, item.region): content.content_hash
            for item, content in zip(preparation.program.weights, preparation.contents, strict=True)
        }
        runnable = self.executor.prepare(preparation.program, weights, hashes)
        with self._lock:
            self._handle(e.Loaded(epoch))
            self._get(epoch).runnable = runnable
        return received

    def commit(self, epoch: int, *, timeout_s: float) -> None:
        """Connect to the peers of a higher rank; from now on requests are taken."""
        with self._lock:
            instructions = self._state.handle(e.CommitRequested(epoch))
        deadline_s = time.monotonic() + timeout_s
        for instruction in instructions:
            assert isinstance(instruction, e.Dial)
            self._dial(epoch, instruction.rank, max(0.1, deadline_s - time.monotonic()))
        logger.info("epoch.committed", extra={"epoch": epoch})

    def abort(self, epoch: int) -> None:
        """Forget an epoch at once."""
        self._locked_handle(e.AbortRequested(epoch))

    def release(self, epoch: int) -> None:
        """Take no new requests; forget the epoch when the last one has ended."""
        self._locked_handle(e.ReleaseRequested(epoch))

    def report(
        self, epoch: int, *, min_request_id: int = 0
    ) -> tuple[list[tuple[int, list[InstructionRecord]]], int]:
        """Return the records of finished requests, oldest first, and how many were dropped."""
        with self._lock:
            entry = self._get(epoch)
            return [item for item in entry.records if item[0] >= min_request_id], entry.num_dropped

    def ping(self, epochs: Iterable[int]) -> int:
        """Take note that the coordinator of these epochs is alive; return how many requests are under way."""
        self._locked_handle(e.LeaseRenewed(tuple(epochs), self._clock()))
        return sum(status.num_active_requests for status in self.status())

    def probe(self, duration_s: float) -> float:
        """Run a fixed piece of work over and over; return how long one takes, at the emulated speed."""
        return probe_s(min(duration_s, MAX_PROBE_S)) / self.speed

    def tick(self) -> None:
        """Forget epochs whose coordinator has gone; to be called now and then."""
        self._locked_handle(e.Tick(self._clock()))

    def close(self) -> None:
        """Forget everything and end the executor's thread."""
        for entry in self.status():
            self.abort(entry.epoch)
        self._runner.close()
        self._transport.close()

    # Data: what the transport calls.

    def accept(self, hello: Hello, connection: Connection) -> Handler:
        """Take a connection from a peer of a lower rank, or from the client."""
        with self._lock:
            mine = self._get(hello.epoch).preparation
            check_proof(mine.key, hello, target=mine.rank)
            self._handle(e.PeerConnected(hello.epoch, hello.rank))
            self._get(hello.epoch).connections[hello.rank] = connection
        return _PeerHandler(self, hello.epoch, hello.rank)

    def admit(self, epoch: int, rank: int, header: Header) -> None:
        """Check a header against the program, before its payload is allocated."""
        if header.epoch != epoch or header.source != rank:
            raise CodecError(
                f"rank {rank} of epoch {epoch} sent a frame of rank {header.source} of epoch {header.epoch}"
            )
        if header.kind is Kind.CANCEL and rank == CLIENT:
            return
        if header.kind is not Kind.TENSOR:
            raise CodecError(f"rank {rank} sent a {header.kind.name}")
        expected = self._get(epoch).receives.get(FrameKey(rank, header.tag))
        if expected is None:
            raise CodecError(f"no frame {header.tag} from rank {rank} is due")
        interpreter.check_due(header, expected)

    def on_frame(self, epoch: int, rank: int, frame: Frame) -> None:
        if frame.kind is Kind.CANCEL:
            self._locked_handle(e.CancelArrived(epoch, frame.request_id))
            return
        key = FrameKey(rank, frame.tag)
        with self._lock:
            self._handle(e.FrameArrived(epoch, frame.request_id, key, frame.array.nbytes), frame)

    def on_lost(self, epoch: int, rank: int, error: EdgeflowError | None) -> None:
        reason = "it closed the connection" if error is None else str(error)
        logger.info("peer.lost", extra={"epoch": epoch, "rank": rank, "reason": reason})
        is_broken, is_silent = isinstance(error, CodecError), isinstance(error, LinkSilentError)
        self._locked_handle(e.PeerLost(epoch, rank, reason, is_broken, is_silent))

    # What the runner calls.

    def on_wait(self, key: RequestKey, frames: tuple[FrameKey, ...]) -> None:
        self._locked_handle(e.RequestWaits(*key, frames))

    def on_finish(self, key: RequestKey, outputs: dict[str, Array]) -> None:
        self._locked_handle(e.RequestFinished(*key))

    def on_error(self, key: RequestKey, error: Exception) -> None:
        if not isinstance(error, EdgeflowError):
            logger.error("request.failed", exc_info=error, extra={"epoch": key[0], "request": key[1]})
        self._locked_handle(e.RequestFailed(*key, failed(error)))

    # Carrying out instructions; the lock is held.

    def _locked_handle(self, event: e.Event) -> None:
        with self._lock:
            self._handle(event)

    def _handle(self, event: e.Event, frame: Frame | None = None) -> None:
        for instruction in self._state.handle(event):
            self._carry_out(instruction, frame)

    def _carry_out(self, instruction: e.Instruction, frame: Frame | None) -> None:
        match instruction:
            case e.Keep():
                assert frame is not None
                key = FrameKey(frame.source, frame.tag)
                self._epochs[frame.epoch].frames[frame.request_id, key] = frame.array
            case e.Discard(reason):
                logger.debug("frame.discarded", extra={"reason": reason})
            case e.StartRequest(epoch, request_id):
                self._runner.start((epoch, request_id), self._run(epoch, request_id))
            case e.Deliver(epoch, request_id, key):
                array = self._epochs[epoch].frames.pop((request_id, key))
                self._runner.resume((epoch, request_id), key, array)
            case e.FailRequest(epoch, request_id, error):
                logger.info(
                    "request.failed", extra={"epoch": epoch, "request": request_id, "reason": str(error)}
                )
                self._tell_client(epoch, request_id, error)
            case e.TellClient(epoch, error):
                self._tell_client(epoch, NO_REQUEST, error)
            case e.DropRequest(epoch, request_id):
                frames = self._epochs[epoch].frames
                for held in [held for held in frames if held[0] == request_id]:
                    del frames[held]
                self._runner.drop((epoch, request_id))
            case e.FreeEpoch(epoch):
                for connection in self._epochs.pop(epoch).connections.values():
                    connection.close()
                self.pool.trim()
                logger.info("epoch.freed", extra={"epoch": epoch})

    def _run(self, epoch: int, request_id: int) -> interpreter.Running:
        entry = self._epochs[epoch]
        assert entry.runnable is not None
        runnable, program = entry.runnable, entry.preparation.program
        records: list[InstructionRecord] = []

        def send(instruction: Send, array: Array) -> None:
            connection = entry.connections.get(instruction.peer)
            if connection is None:
                raise WorkerUnreachableError(f"no connection with rank {instruction.peer}")
            connection.send(
                Frame(
                    kind=Kind.TENSOR,
                    epoch=epoch,
                    source=program.rank,
                    request_id=request_id,
                    tag=instruction.tag,
                    array=array,
                )
            )

        def record(position: int, start_s: float, stop_s: float) -> None:
            records.append(InstructionRecord(position, start_s, stop_s))

        def running() -> interpreter.Running:
            outputs = yield from interpreter.run(
                runnable,
                program,
                {},
                send=send,
                record=record,
                speed=self.speed,
                empty=self.pool.empty,
            )
            self._keep_records(entry, request_id, records)
            return outputs

        return running()

    def _keep_records(self, entry: _Epoch, request_id: int, records: list[InstructionRecord]) -> None:
        with self._lock:
            entry.records.append((request_id, records))
            if len(entry.records) > MAX_RECORDS:
                entry.records.popleft()
                entry.num_dropped += 1

    def _tell_client(self, epoch: int, request_id: int, error: EdgeflowError) -> None:
        entry = self._epochs[epoch]
        connection = entry.connections.get(CLIENT)
        if connection is None:
            return
        payload = np.frombuffer(encode_description(describe(error)), np.uint8)
        frame = Frame(
            kind=Kind.FAILURE,
            epoch=epoch,
            source=entry.preparation.rank,
            request_id=request_id,
            array=payload,
        )
        try:
            connection.send(frame)
        except WorkerUnreachableError:
            logger.debug("client.lost", extra={"epoch": epoch})

    # Helpers of control.

    def _check_contents(self, preparation: Preparation) -> None:
        weights, contents = preparation.program.weights, preparation.contents
        if len(weights) != len(contents):
            raise ConfigError(f"{len(weights)} weight slices, but the contents of {len(contents)}")
        for item, content in zip(weights, contents, strict=True):
            check_content(content, max_bytes=self.memory_limit_bytes)
            if content.dtype != item.dtype or content.shape != item.region.shape:
                raise ConfigError(
                    f"weight {item.tensor!r}: {item.dtype}{list(item.region.shape)} in the program, "
                    f"{content.dtype}{list(content.shape)} beside it"
                )

    def _receive_weights(self, preparation: Preparation, chunks: Iterable[Chunk]) -> int:
        by_hash = {content.content_hash: content for content in preparation.contents}
        received = 0
        writer: Writer | None = None
        try:
            for chunk in chunks:
                if writer is None or writer.content.content_hash != chunk.content_hash:
                    if writer is not None:
                        writer.finish()
                    if chunk.content_hash not in by_hash:
                        raise CodecError(f"weights: {chunk.content_hash[:80]!r} was not asked for")
                    writer = self._cache.writer(by_hash[chunk.content_hash], keep=by_hash)
                writer.write(chunk.offset, chunk.data)
                received += len(chunk.data)
            if writer is not None:
                writer.finish()
        finally:
            if writer is not None:
                writer.discard()
        return received

    def _dial(self, epoch: int, rank: int, timeout_s: float) -> None:
        preparation = self._get(epoch).preparation
        handler = _PeerHandler(self, epoch, rank)
        try:
            connection = self._transport.dial(
                preparation.peers[rank],
                prove(preparation.key, epoch, source=preparation.rank, target=rank),
                handler,
                timeout_s=timeout_s,
            )
        except WorkerUnreachableError as error:
            mine = preparation.rank
            raise PeerLostError(f"rank {mine} cannot reach {error}", rank=mine, peer=rank) from error
        with self._lock:
            entry = self._epochs.get(epoch)
            if entry is not None:
                entry.connections[rank] = connection
                return
        connection.close()
        raise StalePlanError(f"epoch {epoch} was given up while it was committed")

    def _get(self, epoch: int) -> _Epoch:
        entry = self._epochs.get(epoch)
        if entry is None:
            raise StalePlanError(f"epoch {epoch} is not held here")
        return entry


class _PeerHandler:
    """One end of a connection with a peer."""

    def __init__(self, worker: Worker, epoch: int, rank: int) -> None:
        self._worker = worker
        self._epoch = epoch
        self._rank = rank

    def admit(self, header: Header) -> None:
        self._worker.admit(self._epoch, self._rank, header)

    def on_frame(self, frame: Frame) -> None:
        self._worker.on_frame(self._epoch, self._rank, frame)

    def on_lost(self, error: EdgeflowError | None) -> None:
        self._worker.on_lost(self._epoch, self._rank, error)


def peak_memory_bytes() -> int:
    """The most memory that this process has had resident."""
    # Not rusage where there is better: that begins with the peak of the process that started this one.
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name == "VmHWM":
                return int(value.split()[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def default_memory_limit_bytes() -> int:
    """Half of the machine's memory."""
    import psutil

    return int(psutil.virtual_memory().total) // 2
