"""The worker's outer ring: it takes and frees programs. Its `Rank` runs the requests.

Nothing here knows gRPC: the servicer calls these methods, a `Transport` brings the frames. One lock guards
the state and the tables beside it; what takes long (compiling, dialling, computing) happens outside of it.
"""

from __future__ import annotations

import contextlib
import logging
import resource
import secrets
from collections.abc import Iterable, Mapping
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
from edgeflow.incident import save_incident
from edgeflow.kernels.base import Executor
from edgeflow.net.content import Content, check_content
from edgeflow.net.proof import check_key, check_proof, prove
from edgeflow.net.rpc_errors import describe, encode_description
from edgeflow.net.transport.base import Connection, Handler, Hello, Transport
from edgeflow.net.wire import Frame, Kind
from edgeflow.plan.program import CLIENT, Program
from edgeflow.rank.events import RequestAbandoned
from edgeflow.rank.interpreter import receives_of
from edgeflow.rank.pages import PagePool
from edgeflow.rank.rank import Rank, RequestRecords
from edgeflow.sharding.region import Region
from edgeflow.threads import SYSTEM, Threads
from edgeflow.worker import events as e
from edgeflow.worker.check import buffer_bytes, check_program, peers_of, weight_bytes
from edgeflow.worker.probe import MAX_PROBE_S, probe_s
from edgeflow.worker.state import EpochStatus, WorkerState, failed
from edgeflow.worker.weights import WeightCache, Writer

logger = logging.getLogger(__name__)

#: Request id of a failure notice that concerns no particular request; requests are counted from 1.
NO_REQUEST: Final = 0

#: Share of the memory limit that frames of requests which have not begun may take, per epoch.
EARLY_SHARE: Final = 0.25


class Chunk(NamedTuple):
    """A part of a weight slice on its way in."""

    content_hash: str
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparation:
    """A program to run here.

    Attributes:
        contents: The hashes of the program's weight slices, in its order.
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


class Worker:
    """Runs programs for coordinators.

    A failed request is reported to the client; of a foreign error only the class is told.

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
        threads: Threads = SYSTEM,
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
        self._threads = threads
        self._state = WorkerState(
            memory_limit_bytes=memory_limit_bytes, early_limit_bytes=int(memory_limit_bytes * EARLY_SHARE)
        )
        self._preparations: dict[int, Preparation] = {}
        self._lock = threads.lock()
        self._rank = Rank(
            self._state,
            self,
            lock=self._lock,
            name="edgeflow-executor",
            speed=speed,
            empty=self.pool.empty,
            threads=threads,
        )

    # Control: called by the servicer.

    def status(self) -> tuple[EpochStatus, ...]:
        with self._lock:
            return self._state.status()

    def prepare(self, preparation: Preparation) -> tuple[str, ...]:
        """Check a program and reserve memory; return the hashes of the weights that the cache lacks."""
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
            receives=frozenset(receives_of(program)),
            peers=peers_of(program),
            weight_bytes=weight_bytes(program),
            peak_bytes=buffer_bytes(program),
            now_s=self._threads.now(),
        )
        with self._lock:
            self._rank.handle(event)
            self._rank.open(preparation.epoch, program)
            self._preparations[preparation.epoch] = preparation
        logger.info(
            "epoch.prepared",
            extra={"epoch": preparation.epoch, "rank": preparation.rank, "plan": preparation.fingerprint},
        )
        missing = [content for content in preparation.contents if not self._cache.has(content)]
        return tuple(dict.fromkeys(content.content_hash for content in missing))

    def load(self, epoch: int, chunks: Iterable[Chunk]) -> int:
        """Take missing weights, then compile; return how many bytes came."""
        preparation = self._get(epoch)
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
            self._rank.handle(e.Loaded(epoch))
            self._rank.load(epoch, runnable)
        return received

    def commit(self, epoch: int, *, timeout_s: float) -> None:
        """Connect to the peers of a higher rank; from now on requests are taken."""
        with self._lock:
            instructions = self._state.handle(e.CommitRequested(epoch))
        deadline_s = self._threads.now() + timeout_s
        for instruction in instructions:
            assert isinstance(instruction, e.Dial)
            self._dial(epoch, instruction.rank, max(0.1, deadline_s - self._threads.now()))
        logger.info("epoch.committed", extra={"epoch": epoch})

    def abort(self, epoch: int) -> None:
        """Forget an epoch at once."""
        self._handle(e.AbortRequested(epoch))

    def release(self, epoch: int) -> None:
        """Take no new requests; forget the epoch when the last one has ended."""
        self._handle(e.ReleaseRequested(epoch))

    def report(self, epoch: int, *, min_request_id: int = 0) -> tuple[list[RequestRecords], int]:
        """Return the records of finished requests, oldest first, and how many were dropped."""
        with self._lock:
            self._get(epoch)
            records, num_dropped = self._rank.records(epoch)
            return [item for item in records if item[0] >= min_request_id], num_dropped

    def ping(self, epochs: Iterable[int]) -> int:
        """Renew the leases of these epochs; return how many requests are under way."""
        self._handle(e.LeaseRenewed(tuple(epochs), self._threads.now()))
        return sum(status.num_active_requests for status in self.status())

    def probe(self, duration_s: float) -> float:
        """Run a fixed piece of work over and over; return how long one takes, at the emulated speed."""
        return probe_s(min(duration_s, MAX_PROBE_S)) / self.speed

    def tick(self) -> None:
        """Forget epochs whose coordinator has gone; to be called now and then."""
        self._handle(e.Tick(self._threads.now()))

    def save_incident(self, path: Path) -> None:
        """Write the state machine's latest events and decisions to a file; see `edgeflow.incident`."""
        with self._lock:
            save_incident(self._state, path)

    def close(self) -> None:
        """Forget everything and end the executor's thread."""
        for entry in self.status():
            self.abort(entry.epoch)
        self._rank.close()
        self._transport.close()

    # Data: called by the transport and the rank.

    def accept(self, hello: Hello, connection: Connection) -> Handler:
        """Take a connection from a peer of a lower rank, or from the client."""
        with self._lock:
            mine = self._get(hello.epoch)
            check_proof(mine.key, hello, target=mine.rank)
            self._rank.handle(e.PeerConnected(hello.epoch, hello.rank))
            self._rank.attach(hello.epoch, hello.rank, connection)
        return self._rank.handler(hello.epoch, hello.rank)

    def admits(self, kind: Kind, peer: int) -> bool:
        return kind is Kind.CANCEL and peer == CLIENT

    def on_notice(self, epoch: int, peer: int, frame: Frame) -> None:
        """The client has cancelled a request."""
        self._handle(RequestAbandoned(epoch, frame.request_id))

    def on_lost(self, epoch: int, peer: int, error: EdgeflowError | None) -> None:
        reason = "it closed the connection" if error is None else str(error)
        logger.info("peer.lost", extra={"epoch": epoch, "rank": peer, "reason": reason})
        is_broken, is_silent = isinstance(error, CodecError), isinstance(error, LinkSilentError)
        self._handle(e.PeerLost(epoch, peer, reason, is_broken, is_silent))

    def on_finished(self, epoch: int, request_id: int, outputs: dict[str, Array]) -> None:
        """Do nothing: the client has the answer when its own program ends."""

    def on_failed(self, epoch: int, request_id: int, error: Exception) -> None:
        logger.info("request.failed", extra={"epoch": epoch, "request": request_id, "reason": str(error)})
        self._tell_client(epoch, request_id, failed(error))

    def on_dropped(self, epoch: int, request_id: int) -> None:
        """Do nothing: only the rank holds anything of a request."""

    def carry_out(self, instruction: object) -> None:
        match instruction:
            case e.TellClient(epoch, error):
                self._tell_client(epoch, NO_REQUEST, error)
            case e.FreeEpoch(epoch):
                self._rank.free(epoch)
                del self._preparations[epoch]
                self.pool.trim()
                logger.info("epoch.freed", extra={"epoch": epoch})
            case _:
                raise AssertionError(f"a worker does not know {instruction}")

    def _handle(self, event: object) -> None:
        with self._lock:
            self._rank.handle(event)

    def _tell_client(self, epoch: int, request_id: int, error: EdgeflowError) -> None:
        connection = self._rank.connection(epoch, CLIENT)
        if connection is None:
            return
        frame = Frame(
            kind=Kind.FAILURE,
            epoch=epoch,
            source=self._preparations[epoch].rank,
            request_id=request_id,
            array=np.frombuffer(encode_description(describe(error)), np.uint8),
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

    def _dial(self, epoch: int, peer: int, timeout_s: float) -> None:
        preparation = self._get(epoch)
        mine = preparation.rank
        try:
            connection = self._transport.dial(
                preparation.peers[peer],
                prove(preparation.key, epoch, source=mine, target=peer),
                self._rank.handler(epoch, peer),
                timeout_s=timeout_s,
            )
        except WorkerUnreachableError as error:
            raise PeerLostError(f"rank {mine} cannot reach {error}", rank=mine, peer=peer) from error
        with self._lock:
            if epoch in self._preparations:
                self._rank.attach(epoch, peer, connection)
                return
        connection.close()
        raise StalePlanError(f"epoch {epoch} was given up while it was committed")

    def _get(self, epoch: int) -> Preparation:
        preparation = self._preparations.get(epoch)
        if preparation is None:
            raise StalePlanError(f"epoch {epoch} is not held here")
        return preparation


def peak_memory_bytes() -> int:
    """Return the peak resident memory of this process."""
    # Not rusage where this exists: rusage starts from the peak of the parent process.
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name == "VmHWM":
                return int(value.split()[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def default_memory_limit_bytes() -> int:
    """Return half of the machine's memory."""
    import psutil

    return int(psutil.virtual_memory().total) // 2
