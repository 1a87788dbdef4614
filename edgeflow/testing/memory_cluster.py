"""Workers in this process, without a socket: a `Launcher`, a control plane, and faults on demand.

    threads = VirtualThreads()
    cluster = MemoryCluster(["a", "b"], folder, threads=threads)
    with Session(plan, cluster, network=cluster.network(), timeout_s=60.0) as session:
        cluster.kill("a")

The workers are those of production (`edgeflow.worker.Worker`), and so is everything above them; only the
transport of frames and calls is replaced. With virtual threads, an hour of pings takes a moment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from edgeflow.coordinator.control import Description, Pong, Report
from edgeflow.coordinator.session import Network
from edgeflow.errors import EdgeflowError, WorkerUnreachableError
from edgeflow.graph.ir import Array
from edgeflow.kernels import Executor, Runnable, make_executor
from edgeflow.net.content import Content
from edgeflow.net.rpc_errors import describe, rebuild
from edgeflow.net.transport.base import Listener
from edgeflow.net.transport.memory import MemoryNetwork, MemoryTransport
from edgeflow.net.wire import byte_view
from edgeflow.plan.program import Compute, Program
from edgeflow.threads import SYSTEM, Threads
from edgeflow.worker.weights import WeightCache
from edgeflow.worker.worker import Chunk, Preparation, Worker

T = TypeVar("T")

#: Time between two checks whether a worker has come up.
_POLL_S: Final = 0.05

#: Round trip of a control call.
_ROUND_TRIP_S: Final = 1e-4


class _Running:
    """A worker that listens."""

    def __init__(self, worker: Worker, listener: Listener) -> None:
        self.worker = worker
        self.listener = listener
        self.is_hung = False

    def close(self) -> None:
        self.worker.close()
        self.listener.close()


class MemoryCluster:
    """The workers of named devices.

    Args:
        devices: Names; a worker is started for each.
        folder: Where workers keep weights.
        executor: Makes the back end of a device's worker; torch by default.
        memory_limit_bytes: Of each worker.
        can_replace: Whether `replace` starts another worker, as a launcher of processes does.

    Attributes:
        addresses: Name of a device -> address of its worker, also if it does not run now.
    """

    pids: Mapping[int, int] = {}

    def __init__(
        self,
        devices: Iterable[str],
        folder: Path,
        *,
        threads: Threads = SYSTEM,
        executor: Callable[[str], Executor] = lambda device: make_executor("torch"),
        memory_limit_bytes: int = 1 << 30,
        can_replace: bool = False,
    ) -> None:
        self.threads = threads
        self.addresses: dict[str, str] = {}
        self._folder = folder
        self._executor = executor
        self._memory_limit_bytes = memory_limit_bytes
        self._can_replace = can_replace
        self._network = MemoryNetwork(threads)
        self._running: dict[str, _Running] = {}
        for device in devices:
            self.start(device)

    def network(self) -> Network:
        """Return the network by which a session reaches these workers."""
        return Network(
            transport=MemoryTransport(self._network),
            choose_routes=lambda addresses, ports: dict(addresses),
            control=lambda address, rank: MemoryControl(self, address, rank),
            threads=self.threads,
        )

    def worker(self, device: str) -> Worker:
        return self._running[self.addresses[device]].worker

    @property
    def held_epochs(self) -> int:
        """Epochs that the workers hold, all together."""
        return sum(len(running.worker.status()) for running in self._running.values())

    # Faults.

    def start(self, device: str) -> str:
        """Start a worker for a device, at the address that it had before; return that."""
        transport = MemoryTransport(self._network)
        worker = Worker(
            executor=self._executor(device),
            transport=transport,
            cache=WeightCache(self._folder / device),
            memory_limit_bytes=self._memory_limit_bytes,
            threads=self.threads,
        )
        address = self.addresses.get(device) or self._network.new_address()
        listener = transport.listen(address, worker.accept)
        self._running[address] = _Running(worker, listener)
        self.addresses[device] = address
        return address

    def kill(self, device: str) -> None:
        """End a worker: its connections close, and calls to it are refused."""
        self._running.pop(self.addresses[device]).close()

    def hang(self, device: str) -> None:
        """Let a worker answer no call any more, though its connections stay."""
        self._running[self.addresses[device]].is_hung = True

    def resume(self, device: str) -> None:
        self._running[self.addresses[device]].is_hung = False

    # As a launcher.

    def replace(self, device: str) -> str | None:
        if not self._can_replace or self.addresses[device] in self._running:
            return None
        return self.start(device)

    def close(self) -> None:
        running, self._running = self._running, {}
        for each in running.values():
            each.close()

    def called(self, address: str, timeout_s: float, where: str) -> Worker:
        """Return the worker that answers a call."""
        self.threads.sleep(_ROUND_TRIP_S)
        running = self._running.get(address)
        if running is None:
            raise WorkerUnreachableError(f"{where} cannot be reached: nobody listens there")
        if running.is_hung:
            self.threads.sleep(timeout_s)
            raise WorkerUnreachableError(f"{where} cannot be reached: no answer in {timeout_s:.1f} s")
        return running.worker


class MemoryControl:
    """Calls a worker of a `MemoryCluster`; implements `edgeflow.coordinator.control.Control`."""

    def __init__(self, cluster: MemoryCluster, address: str, rank: int) -> None:
        self.address = address
        self._cluster = cluster
        self._where = f"worker {address} (rank {rank})"
        self._is_given_up = False

    def describe(self, *, timeout_s: float) -> Description:
        threads = self._cluster.threads
        deadline_s = threads.now() + timeout_s
        while True:
            try:
                worker = self._worker(timeout_s)
                break
            except WorkerUnreachableError:
                if threads.now() >= deadline_s or self._is_given_up:
                    raise
                threads.sleep(_POLL_S)
        return Description(
            name=self.address,
            version="memory",
            executor=worker.executor.name,
            num_threads=1,
            memory_limit_bytes=worker.memory_limit_bytes,
            clock_offset_s=0.0,
            round_trip_s=_ROUND_TRIP_S,
            data_ports={},
        )

    def held_epochs(self, *, timeout_s: float) -> tuple[int, ...]:
        return tuple(status.epoch for status in self._worker(timeout_s).status())

    def prepare(
        self,
        epoch: int,
        program: Program,
        *,
        fingerprint: str,
        peers: Mapping[int, str],
        contents: Iterable[Content],
        key: bytes,
        timeout_s: float,
    ) -> tuple[str, ...]:
        preparation = Preparation(
            epoch=epoch,
            fingerprint=fingerprint,
            rank=program.rank,
            program=program,
            peers=peers,
            contents=tuple(contents),
            key=key,
        )
        return self._call(lambda worker: worker.prepare(preparation), timeout_s)

    def load(self, epoch: int, slices: Iterable[tuple[Content, Array]], *, timeout_s: float) -> None:
        def chunks() -> Iterator[Chunk]:
            for content, array in slices:
                yield Chunk(content.content_hash, 0, bytes(byte_view(array)))

        self._call(lambda worker: worker.load(epoch, chunks()), timeout_s)

    def commit(self, epoch: int, *, timeout_s: float) -> None:
        self._call(lambda worker: worker.commit(epoch, timeout_s=timeout_s), timeout_s)

    def abort(self, epoch: int, *, timeout_s: float) -> None:
        self._call(lambda worker: worker.abort(epoch), timeout_s, is_undoing=True)

    def release(self, epoch: int, *, timeout_s: float) -> None:
        self._call(lambda worker: worker.release(epoch), timeout_s, is_undoing=True)

    def report(self, epoch: int, *, min_request_id: int, timeout_s: float) -> Report:
        records, _ = self._call(lambda worker: worker.report(epoch, min_request_id=min_request_id), timeout_s)
        return Report({request_id: [*items] for request_id, items in records}, 0)

    def ping(self, epochs: Iterable[int], *, timeout_s: float) -> Pong:
        return self._call(lambda worker: Pong(worker.instance, worker.ping(epochs)), timeout_s)

    def probe(self, duration_s: float, *, timeout_s: float) -> float:
        """Return a constant at the worker's speed: real work would show nothing in virtual time."""
        self._cluster.threads.sleep(duration_s)
        return self._call(lambda worker: 1e-3 / worker.speed, timeout_s)

    def cancel(self) -> None:
        self._is_given_up = True

    def close(self) -> None:
        pass

    def _call(self, function: Callable[[Worker], T], timeout_s: float, *, is_undoing: bool = False) -> T:
        worker = self._worker(timeout_s, is_undoing=is_undoing)
        try:
            return function(worker)
        except EdgeflowError as error:
            raise rebuild(describe(error), where=self._where) from error

    def _worker(self, timeout_s: float, *, is_undoing: bool = False) -> Worker:
        if self._is_given_up and not is_undoing:
            raise WorkerUnreachableError(f"{self._where}: the call was given up")
        return self._cluster.called(self.address, timeout_s, self._where)


class TimedExecutor:
    """A back end whose kernels take a given time, by the clock of the threads.

    Args:
        inner: Computes.
        seconds: How long each `Compute` takes; may change while it runs.
    """

    name = "torch"

    def __init__(self, inner: Executor, threads: Threads, seconds: Callable[[Compute], float]) -> None:
        self._inner = inner
        self._threads = threads
        self._seconds = seconds

    def prepare(self, program: Program, weights: Mapping[Any, Array], hashes: Any = None) -> Runnable:
        return _Timed(self._inner.prepare(program, weights, hashes), program, self._threads, self._seconds)


class _Timed:
    def __init__(
        self, inner: Runnable, program: Program, threads: Threads, seconds: Callable[[Compute], float]
    ) -> None:
        self._inner = inner
        self._program = program
        self._threads = threads
        self._seconds = seconds

    def compute(self, instruction_index: int, buffers: dict[int, Array]) -> None:
        instruction = self._program.instructions[instruction_index]
        assert isinstance(instruction, Compute)
        self._threads.sleep(self._seconds(instruction))
        self._inner.compute(instruction_index, buffers)
