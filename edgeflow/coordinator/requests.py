"""What a coordinator decides about requests: events in, instructions out; no socket, clock or thread.

A request is submitted, started when there is room, and then answered, failed, timed out or abandoned. The
client's own program (send the inputs, receive the outputs) runs like any rank's; see
`edgeflow.rank.schedule`.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgeflow.errors import CodecError, DeadlineExceededError, EdgeflowError, WorkerUnreachableError
from edgeflow.rank.schedule import Arrival, Begin, FrameKey, Schedule


@dataclass(frozen=True, slots=True)
class Submitted:
    """Somebody wants an answer.

    Attributes:
        deadline_s: By when; None: the usual time from its start.
    """

    request_id: int
    deadline_s: float | None = None


@dataclass(frozen=True, slots=True)
class FrameArrived:
    request_id: int
    frame: FrameKey
    num_bytes: int


@dataclass(frozen=True, slots=True)
class FailureArrived:
    """A worker says that a request has failed."""

    request_id: int
    error: EdgeflowError


@dataclass(frozen=True, slots=True)
class RequestWaits:
    """The client's program needs one of these frames to go on."""

    request_id: int
    frames: tuple[FrameKey, ...]


@dataclass(frozen=True, slots=True)
class RequestFinished:
    """The client's program has come to its end."""

    request_id: int


@dataclass(frozen=True, slots=True)
class RequestFailed:
    """The client's program has raised."""

    request_id: int
    error: Exception


@dataclass(frozen=True, slots=True)
class RequestAbandoned:
    """Nobody waits for the answer any more."""

    request_id: int


@dataclass(frozen=True, slots=True)
class WorkerLost:
    rank: int
    error: EdgeflowError


@dataclass(frozen=True, slots=True)
class Closed:
    """The session ends; what is pending fails with ``error``."""

    error: EdgeflowError


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


RequestEvent = (
    Submitted
    | FrameArrived
    | FailureArrived
    | RequestWaits
    | RequestFinished
    | RequestFailed
    | RequestAbandoned
    | WorkerLost
    | Closed
    | Tick
)


@dataclass(frozen=True, slots=True)
class StartRequest:
    request_id: int


@dataclass(frozen=True, slots=True)
class Keep:
    """Keep the payload of the frame that has just arrived."""


@dataclass(frozen=True, slots=True)
class Discard:
    """Forget the frame that has just arrived."""

    reason: str


@dataclass(frozen=True, slots=True)
class Deliver:
    request_id: int
    frame: FrameKey


@dataclass(frozen=True, slots=True)
class AnswerRequest:
    """The answer is complete."""

    request_id: int


@dataclass(frozen=True, slots=True)
class FailRequest:
    request_id: int
    error: Exception


@dataclass(frozen=True, slots=True)
class CancelRequest:
    """Tell the workers that a request is not wanted any more, and forget what is held for it."""

    request_id: int


RequestInstruction = StartRequest | Keep | Discard | Deliver | AnswerRequest | FailRequest | CancelRequest


class RequestsState:
    """The requests of one committed plan.

    Args:
        receives: Every frame that the client's program receives.
        timeout_s: From a request's start to its answer, where it has no deadline of its own.
        max_in_flight: Requests that may be under way; the rest wait, and their time does not run yet.
    """

    def __init__(self, receives: frozenset[FrameKey], *, timeout_s: float, max_in_flight: int) -> None:
        self._schedule = Schedule(receives, max_active=max_in_flight)
        self._timeout_s = timeout_s
        self._deadlines: dict[int, float] = {}
        self._started: dict[int, float] = {}
        self._broken: EdgeflowError | None = None
        self._running: int | None = None

    @property
    def pending(self) -> tuple[int, ...]:
        """Requests without an answer, oldest first."""
        return self._schedule.pending

    @property
    def is_sound(self) -> bool:
        """Whether further requests can be taken."""
        return self._broken is None

    @property
    def next_deadline_s(self) -> float | None:
        """When the next request runs out of time, if there is one."""
        return min(self._deadlines.values(), default=None)

    def handle(self, event: RequestEvent, now_s: float) -> list[RequestInstruction]:
        """Take an event; return what to do.

        Raises:
            CodecError: A worker has sent what the program does not receive.
            EdgeflowError: On `Submitted`: why no request can be taken any more.
        """
        match event:
            case Submitted(request_id, deadline_s):
                if self._broken is not None:
                    raise self._broken
                if deadline_s is not None:
                    self._deadlines[request_id] = deadline_s
                self._schedule.add(request_id)
                return self._next(now_s)
            case FrameArrived():
                return self._arrive(event, now_s)
            case FailureArrived(request_id, error):
                return self._fail((request_id,), error, now_s)
            case RequestWaits(request_id, frames):
                self._running = None
                if self._schedule.is_pending(request_id):
                    self._schedule.wait(request_id, frames)
                return self._next(now_s)
            case RequestFinished(request_id):
                self._running = None
                return self._finish(request_id, now_s)
            case RequestFailed(request_id, error):
                self._running = None
                return self._fail((request_id,), error, now_s)
            case RequestAbandoned(request_id):
                if not self._schedule.is_pending(request_id):
                    return []
                self._end(request_id)
                return [CancelRequest(request_id), *self._next(now_s)]
            case WorkerLost(rank, error):
                self._broken = WorkerUnreachableError(f"rank {rank} was lost: {error}")
                return self._fail(self.pending, self._broken, now_s)
            case Closed(error):
                self._broken = error
                return self._fail(self.pending, error, now_s)
            case Tick():
                return self._expire(now_s)

    def _arrive(self, event: FrameArrived, now_s: float) -> list[RequestInstruction]:
        arrival = self._schedule.arrive(event.request_id, event.frame, event.num_bytes)
        if arrival is Arrival.UNEXPECTED:
            raise CodecError(f"no frame {event.frame.tag} from rank {event.frame.peer} is due")
        if arrival is not Arrival.KEEP:
            return [Discard(arrival.value)]
        return [Keep(), *self._next(now_s)]

    def _finish(self, request_id: int, now_s: float) -> list[RequestInstruction]:
        if not self._schedule.is_pending(request_id):
            return self._next(now_s)
        self._end(request_id)
        return [AnswerRequest(request_id), *self._next(now_s)]

    def _fail(self, request_ids: tuple[int, ...], error: Exception, now_s: float) -> list[RequestInstruction]:
        instructions: list[RequestInstruction] = []
        for request_id in request_ids:
            if self._schedule.is_pending(request_id):
                self._end(request_id)
                instructions += [FailRequest(request_id, error), CancelRequest(request_id)]
        return [*instructions, *self._next(now_s)]

    def _expire(self, now_s: float) -> list[RequestInstruction]:
        instructions: list[RequestInstruction] = []
        for request_id, deadline_s in sorted(self._deadlines.items()):
            if deadline_s <= now_s:
                instructions += self._fail((request_id,), self._late(request_id, now_s), now_s)
        return instructions

    def _late(self, request_id: int, now_s: float) -> DeadlineExceededError:
        frames = sorted(self._schedule.waits_for(request_id))
        named = " or ".join(f"frame {frame.tag} from rank {frame.peer}" for frame in frames)
        waiting = f"; it waits for {named}" if frames else ""
        seconds = now_s - self._started.get(request_id, now_s)
        return DeadlineExceededError(f"request {request_id} had no answer in {seconds:.1f} s{waiting}")

    def _end(self, request_id: int) -> None:
        self._schedule.end(request_id)
        self._deadlines.pop(request_id, None)
        self._started.pop(request_id, None)

    def _next(self, now_s: float) -> list[RequestInstruction]:
        if self._running is not None:
            return []
        job = self._schedule.next()
        if job is None:
            return []
        self._running = job.request_id
        if isinstance(job, Begin):
            self._started[job.request_id] = now_s
            self._deadlines.setdefault(job.request_id, now_s + self._timeout_s)
            return [StartRequest(job.request_id)]
        return [Deliver(job.request_id, job.frame)]
