"""A deployed plan that answers requests."""

from __future__ import annotations

import functools
import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Generator, Iterable, Mapping
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Final, Self

from edgeflow.cost.timeline import trace_event
from edgeflow.errors import ClusterError, CodecError, EdgeflowError, WorkerUnreachableError
from edgeflow.graph.ir import Array
from edgeflow.graph.structure import flatten_inputs, unflatten_outputs
from edgeflow.plan import Plan
from edgeflow.plan.program import CLIENT, Send
from edgeflow.runtime import interpreter
from edgeflow.runtime.coordinator import requests as r
from edgeflow.runtime.coordinator.processes import LocalWorkers
from edgeflow.runtime.coordinator.rollout import CONNECT_TIMEOUT_S, Rollout
from edgeflow.runtime.pages import PagePool
from edgeflow.runtime.rpc_errors import decode_description, rebuild
from edgeflow.runtime.runner import RequestKey, Runner
from edgeflow.runtime.schedule import FrameKey
from edgeflow.runtime.transport.base import Connection, Hello
from edgeflow.runtime.transport.grpc_ import GrpcTransport
from edgeflow.runtime.transport.routes import RoutedTransport
from edgeflow.runtime.transport.tcp import TcpTransport
from edgeflow.runtime.wire import Frame, Header, Kind
from edgeflow.telemetry.trace import TraceEvent

logger = logging.getLogger(__name__)

#: Requests under way at once; the rest wait their turn.
MAX_IN_FLIGHT: Final = 8

#: Finished requests whose own records (the client's) are kept for `Session.trace`.
_MAX_RECORDS: Final = 512

#: A worker may still be writing down the end of a request when its answer is here already.
_TRACE_WAIT_S: Final = 1.0

#: Position of an instruction, when it began, when it ended.
_Record = tuple[int, float, float]
#: By request.
_Records = Mapping[int, list[_Record]]


class Session:
    """A plan on its workers; made by `edgeflow.deploy`. Use it in a ``with`` statement, or close it.

    Its methods may be called from several threads.

    Attributes:
        plan: What was deployed.
        timeout_s: How long a request may take.
    """

    def __init__(
        self,
        plan: Plan,
        epoch: int,
        addresses: Mapping[int, str],
        *,
        timeout_s: float,
        transport: str = "auto",
        processes: LocalWorkers | None = None,
    ) -> None:
        self.plan = plan
        self.timeout_s = timeout_s
        self._epoch = epoch
        self._addresses = addresses
        self._processes = processes
        self._program = plan.programs[CLIENT]
        self._receives = {
            key: item for item in self._program.receives for key in interpreter.frame_keys(item)
        }
        self._lock = threading.RLock()
        self._state = r.RequestsState(
            frozenset(self._receives), timeout_s=timeout_s, max_in_flight=MAX_IN_FLIGHT
        )
        self._ids = itertools.count(1)
        self._inputs: dict[int, Mapping[str, Array]] = {}
        self._outputs: dict[int, dict[str, Array]] = {}
        self._futures: dict[int, Future[Any]] = {}
        self._frames: dict[tuple[int, FrameKey], Array] = {}
        self._records: deque[tuple[int, list[_Record]]] = deque(maxlen=_MAX_RECORDS)
        self._connections: dict[int, Connection] = {}
        self._is_closed = False
        self._pool = PagePool()
        self._transport = RoutedTransport((TcpTransport(allocate=self._pool.empty), GrpcTransport()))
        self._runner = Runner("edgeflow-client", self, tick=self._tick)
        self._rollout = Rollout(
            plan, epoch, addresses, attach=self._attach, timeout_s=timeout_s, transport=transport
        )
        try:
            self._rollout.open()
        except BaseException:
            self._free()
            raise
        self._started_s = time.monotonic()

    # What people call.

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """Answer one request: what the module would return for these arguments.

        Raises:
            ConfigError: If the arguments do not fit the graph.
            DeadlineExceededError: If there is no answer within `timeout_s`.
            WorkerUnreachableError: If a worker is lost.
            ClusterError: If a worker fails, is overloaded, or the session is closed.
        """
        request_id, future = self._submit(flatten_inputs(self.plan.graph, args, kwargs))
        try:
            return future.result()
        except BaseException:
            self._abandon(request_id)
            raise

    def submit(self, *args: Any, **kwargs: Any) -> Future[Any]:
        """Begin a request and return at once; the future raises what `run` would.

        The arguments are copied, so they may be changed afterwards.
        """
        inputs = flatten_inputs(self.plan.graph, args, kwargs)
        return self._submit({name: array.copy() for name, array in inputs.items()})[1]

    def stream(self, items: Iterable[Any], *, max_in_flight: int = 4) -> Generator[Any, None, None]:
        """Answer requests in order, several under way at a time.

        Args:
            items: Each the only argument of a request; a tuple is all of its positional arguments, a dict
                its keyword arguments.
            max_in_flight: How many may be under way.

        Raises:
            What `run` raises, when the answer to the request in question is due.
        """
        if max_in_flight < 1:
            raise ValueError(f"max_in_flight must be at least 1, got {max_in_flight}")
        pending: deque[tuple[int, Future[Any]]] = deque()
        try:
            for item in items:
                args, kwargs = arguments_of(item)
                pending.append(self._submit(flatten_inputs(self.plan.graph, args, kwargs)))
                if len(pending) == max_in_flight:
                    yield pending.popleft()[1].result()
            while pending:
                yield pending.popleft()[1].result()
        finally:
            for request_id, _ in pending:
                self._abandon(request_id)

    def trace(self) -> list[TraceEvent]:
        """Return what every rank did and when, for all finished requests that are remembered.

        Times are in seconds since the session began, on this process's clock; those of workers are off by
        at most half of a round trip.
        """
        with self._lock:
            own = dict(self._records)
        records: list[tuple[int, float, _Records]] = [(CLIENT, 0.0, own)]
        for rank, requests in self._reports(set(own)).items():
            records.append((rank, self._rollout.descriptions[rank].clock_offset_s, requests))
        events = []
        for rank, offset_s, requests in records:
            instructions = self.plan.programs[rank].instructions
            shift_s = offset_s + self._started_s
            for request_id, items in requests.items():
                for position, start_s, stop_s in items:
                    event = trace_event(
                        rank,
                        instructions[position],
                        start_s - shift_s,
                        stop_s - shift_s,
                        request=request_id,
                    )
                    if event is not None:
                        events.append(event)
        return sorted(events, key=lambda event: (event.start_s, event.rank))

    def peak_memory_bytes(self) -> dict[int, int]:
        """Rank -> the most memory that the worker's process has had resident."""
        return {
            rank: report.peak_memory_bytes
            for rank, report in self._rollout.reports(min_request_id=1 << 62).items()
        }

    @property
    def worker_pids(self) -> dict[int, int]:
        """Rank -> process id of the workers that this session started; empty if they run elsewhere."""
        return {} if self._processes is None else self._processes.pids

    def close(self) -> None:
        """Take the plan off its workers, and end those that were started for it; may be called twice.

        Requests that have no answer fail with `ClusterError`.
        """
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            is_idle = not self._state.pending
            self._handle(r.Closed(ClusterError("the session is closed")))
        self._rollout.close(is_idle=is_idle)
        self._free()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # What the transport calls.

    def admit(self, rank: int, header: Header) -> None:
        if header.epoch != self._epoch or header.source != rank:
            raise CodecError(
                f"rank {rank} sent a frame of rank {header.source} of epoch {header.epoch}, not {self._epoch}"
            )
        if header.kind is Kind.FAILURE:
            return
        expected = self._receives.get(FrameKey(rank, header.tag))
        if header.kind is not Kind.TENSOR or expected is None:
            raise CodecError(f"rank {rank} sent a {header.kind.name} {header.tag}, which is not due")
        if header.dtype != expected.dtype or header.shape != expected.region.shape:
            raise CodecError(
                f"frame {header.tag} from rank {rank} is {header.dtype}{list(header.shape)}, "
                f"not {expected.dtype}{list(expected.region.shape)}"
            )

    def on_frame(self, rank: int, frame: Frame) -> None:
        if frame.kind is Kind.FAILURE:
            error = rebuild(decode_description(frame.array.tobytes()), where=self._where(rank))
            self._locked_handle(r.FailureArrived(frame.request_id, error))
            return
        key = FrameKey(rank, frame.tag)
        with self._lock:
            self._handle(r.FrameArrived(frame.request_id, key, frame.array.nbytes), frame.array)

    def on_lost(self, rank: int, error: EdgeflowError | None) -> None:
        reason = "it closed the connection" if error is None else str(error)
        lost = WorkerUnreachableError(f"{self._where(rank)} was lost: {reason}")
        with self._lock:
            if not self._is_closed:
                logger.warning("worker.lost", extra={"rank": rank, "reason": reason})
                self._handle(r.WorkerLost(rank, lost))

    # What the runner calls.

    def on_wait(self, key: RequestKey, frames: tuple[FrameKey, ...]) -> None:
        self._locked_handle(r.RequestWaits(key[1], frames))

    def on_finish(self, key: RequestKey, outputs: dict[str, Array]) -> None:
        with self._lock:
            self._outputs[key[1]] = outputs
            self._handle(r.RequestFinished(key[1]))
            self._outputs.pop(key[1], None)

    def on_error(self, key: RequestKey, error: Exception) -> None:
        self._locked_handle(r.RequestFailed(key[1], error))

    def _tick(self) -> float | None:
        with self._lock:
            self._handle(r.Tick())
            deadline_s = self._state.next_deadline_s
        return None if deadline_s is None else max(0.001, deadline_s - time.monotonic())

    # Carrying out instructions; the lock is held.

    def _submit(self, inputs: Mapping[str, Array]) -> tuple[int, Future[Any]]:
        future: Future[Any] = Future()
        with self._lock:
            # Ids are given and requests begun in one order: every rank meets them in that order.
            request_id = next(self._ids)
            self._inputs[request_id] = inputs
            self._futures[request_id] = future
            try:
                self._handle(r.Submitted(request_id))
            except EdgeflowError:
                del self._inputs[request_id], self._futures[request_id]
                raise
        return request_id, future

    def _abandon(self, request_id: int) -> None:
        self._locked_handle(r.RequestAbandoned(request_id))

    def _locked_handle(self, event: r.RequestEvent) -> None:
        with self._lock:
            self._handle(event)

    def _handle(self, event: r.RequestEvent, array: Array | None = None) -> None:
        for instruction in self._state.handle(event, time.monotonic()):
            match instruction:
                case r.StartRequest(request_id):
                    self._futures[request_id].set_running_or_notify_cancel()
                    self._runner.start((self._epoch, request_id), self._run(request_id))
                case r.Keep():
                    assert isinstance(event, r.FrameArrived) and array is not None
                    self._frames[event.request_id, event.frame] = array
                case r.Discard(reason):
                    logger.debug("frame.discarded", extra={"reason": reason})
                case r.Deliver(request_id, key):
                    frame = self._frames.pop((request_id, key))
                    self._runner.resume((self._epoch, request_id), key, frame)
                case r.AnswerRequest(request_id):
                    self._answer(request_id)
                case r.FailRequest(request_id, error):
                    future = self._forget(request_id)
                    self._runner.call(functools.partial(_settle, future, error=error))
                case r.CancelRequest(request_id):
                    self._cancel(request_id)

    def _run(self, request_id: int) -> interpreter.Running:
        inputs = self._inputs[request_id]
        records: list[_Record] = []

        def send(instruction: Send, array: Array) -> None:
            self._connections[instruction.peer].send(
                Frame(
                    kind=Kind.TENSOR,
                    epoch=self._epoch,
                    source=CLIENT,
                    request_id=request_id,
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
            with self._lock:
                self._records.append((request_id, records))
            return outputs

        return running()

    def _answer(self, request_id: int) -> None:
        outputs = self._outputs.pop(request_id)
        future = self._forget(request_id)

        def settle() -> None:
            try:
                answer = unflatten_outputs(self.plan.graph, outputs)
            except Exception as error:  # the caller's own output type may raise
                _settle(future, error=error)
            else:
                _settle(future, result=answer)

        # Not here: whoever waits for the future may run code of his own, and the lock is held.
        self._runner.call(settle)

    def _cancel(self, request_id: int) -> None:
        for key in [key for key in self._frames if key[0] == request_id]:
            del self._frames[key]
        self._runner.drop((self._epoch, request_id))
        future = self._forget(request_id)
        if future is not None:
            future.cancel()
        frame = Frame(kind=Kind.CANCEL, epoch=self._epoch, source=CLIENT, request_id=request_id)
        for connection in self._connections.values():
            try:
                connection.send(frame)
            except WorkerUnreachableError:
                logger.debug("cancel.lost", extra={"request": request_id})

    def _forget(self, request_id: int) -> Future[Any] | None:
        self._inputs.pop(request_id, None)
        return self._futures.pop(request_id, None)

    # Helpers.

    def _attach(self, rank: int) -> None:
        connection = self._transport.dial(
            self._rollout.routes[rank],
            Hello(self._epoch, CLIENT),
            _WorkerHandler(self, rank),
            timeout_s=min(self.timeout_s, CONNECT_TIMEOUT_S),
        )
        with self._lock:
            self._connections[rank] = connection

    def _free(self) -> None:
        for connection in self._connections.values():
            connection.close()
        self._transport.close()
        self._runner.close()
        if self._processes is not None:
            self._processes.close()

    def _where(self, rank: int) -> str:
        return f"worker {self._addresses[rank]} (rank {rank})"

    def _reports(self, finished: set[int]) -> dict[int, _Records]:
        deadline_s = time.monotonic() + _TRACE_WAIT_S
        while True:
            reports = self._rollout.reports(min_request_id=min(finished, default=0))
            is_complete = all(finished <= set(report.requests) for report in reports.values())
            if is_complete or time.monotonic() > deadline_s:
                return {rank: report.requests for rank, report in reports.items()}
            time.sleep(0.01)


class _WorkerHandler:
    """The client's end of the connection with one worker."""

    def __init__(self, session: Session, rank: int) -> None:
        self._session = session
        self._rank = rank

    def admit(self, header: Header) -> None:
        self._session.admit(self._rank, header)

    def on_frame(self, frame: Frame) -> None:
        self._session.on_frame(self._rank, frame)

    def on_lost(self, error: EdgeflowError | None) -> None:
        self._session.on_lost(self._rank, error)


class _NoKernels:
    """The client sends, receives and assembles; it computes nothing."""

    def compute(self, instruction_index: int, buffers: dict[int, Array]) -> None:
        raise AssertionError(f"the client's program computes at instruction {instruction_index}")


def _settle(future: Future[Any] | None, *, result: Any = None, error: BaseException | None = None) -> None:
    """Give a future its outcome, unless it was cancelled."""
    if future is None or future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)


def arguments_of(item: Any) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
    """What an item of a stream means: the only argument, all positional ones, or the keyword ones."""
    if isinstance(item, tuple):
        return item, {}
    if isinstance(item, dict):
        return (), item
    return (item,), {}
