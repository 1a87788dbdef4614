"""One request on an idle cluster, on a virtual clock: the prediction that plans are compared by.

Every rank runs its program in order; a send leaves when the rank reaches it and its network interface is
free; a receive waits for its frame. Interfaces serialise what they send and what they take in.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Mapping

import msgspec

from edgeflow.cluster.cluster import HOST_LINK
from edgeflow.cost.model import CostModel
from edgeflow.errors import InvalidPlanError
from edgeflow.graph.ir import NUMPY_DTYPES
from edgeflow.plan.plan import Plan
from edgeflow.plan.program import CLIENT, Assemble, Compute, Instruction, Program, Receive, Send
from edgeflow.telemetry import TraceEvent


class Prediction(msgspec.Struct, frozen=True, kw_only=True):
    """What one request is expected to cost.

    Attributes:
        latency_s: From its arrival to its whole answer.
        compute_s: Rank -> seconds of its kernels.
        transferred_bytes: Over links between devices, and between the client and devices on other hosts.
        num_messages: Frames over those links.
        events: The timeline, if it was asked for.
    """

    latency_s: float
    compute_s: Mapping[int, float]
    transferred_bytes: int
    num_messages: int
    events: tuple[TraceEvent, ...] = ()


def predict(plan: Plan, cost: CostModel | None = None, *, with_events: bool = True) -> Prediction:
    """Predict one request of a plan on an idle cluster."""
    return predict_programs(plan.programs, cost or CostModel(cluster=plan.cluster), with_events=with_events)


def predict_programs(
    programs: Mapping[int, Program], cost: CostModel, *, with_events: bool = False
) -> Prediction:
    """Predict one request of lowered programs.

    Raises:
        InvalidPlanError: If the programs wait for each other in a circle.
    """
    return _Clockwork(programs, cost, with_events).run()


class _Clockwork:
    """Events in the order of time: a rank's next instruction, or a frame that reaches an interface."""

    def __init__(self, programs: Mapping[int, Program], cost: CostModel, with_events: bool) -> None:
        self._programs = programs
        self._cost = cost
        self._with_events = with_events
        self._agenda: list[tuple[float, int, int, Send | None]] = []
        self._order = itertools.count()
        self._next = dict.fromkeys(programs, 0)
        self._clock = dict.fromkeys(programs, 0.0)
        self._arrived: dict[int, float] = {}
        self._parked: dict[int, int] = {}
        self._egress = dict.fromkeys(programs, 0.0)
        self._ingress = dict.fromkeys(programs, 0.0)
        self._compute_s = {rank: 0.0 for rank in programs if rank != CLIENT}
        self._bytes = 0
        self._messages = 0
        self._events: list[TraceEvent] = []

    def run(self) -> Prediction:
        for rank in self._programs:
            self._schedule(0.0, rank)
        while self._agenda:
            time, _, rank, frame = heapq.heappop(self._agenda)
            if frame is None:
                self._advance(rank)
            else:
                self._take_in(time, rank, frame)
        if self._parked:
            raise InvalidPlanError(
                f"ranks {sorted(self._parked.values())} wait for frames that are never sent"
            )
        return Prediction(
            latency_s=self._clock[CLIENT],
            compute_s=self._compute_s,
            transferred_bytes=self._bytes,
            num_messages=self._messages,
            events=tuple(self._events),
        )

    def _schedule(self, time: float, rank: int, frame: Send | None = None) -> None:
        """Let ``rank`` go on at ``time``, or ``frame`` from it reach its receiver's interface."""
        heapq.heappush(self._agenda, (time, next(self._order), rank, frame))

    def _advance(self, rank: int) -> None:
        """Run one instruction."""
        instructions = self._programs[rank].instructions
        index = self._next[rank]
        if index >= len(instructions):
            return
        instruction = instructions[index]
        start = self._clock[rank]
        if isinstance(instruction, Receive) and instruction.tag not in self._arrived:
            self._parked[instruction.tag] = rank
            return
        self._next[rank] += 1
        match instruction:
            case Compute():
                seconds = sum(self._cost.kernel_s(rank, kernel) for kernel in instruction.kernels)
                self._compute_s[rank] += seconds
                self._clock[rank] = start + seconds
            case Assemble():
                itemsize = NUMPY_DTYPES[instruction.dtype].itemsize
                self._clock[rank] = start + self._cost.assemble_s(rank, instruction, itemsize)
            case Receive():
                arrival = self._arrived.pop(instruction.tag)
                self._clock[rank] = max(start, arrival) + self._cost.message_s(rank)
            case Send():
                self._clock[rank] = start + self._cost.message_s(rank)
                self._send(rank, instruction)
        if self._with_events:
            self._record(rank, instruction, start)
        self._schedule(self._clock[rank], rank)

    def _send(self, rank: int, frame: Send) -> None:
        link = self._cost.cluster.link(rank, frame.peer)
        duration = frame.num_bytes / link.bandwidth_bytes_per_s
        if link is HOST_LINK:
            self._arrive(frame, self._clock[rank] + link.latency_s + duration)
            return
        leaves = max(self._clock[rank], self._egress[rank])
        self._egress[rank] = leaves + duration
        self._bytes += frame.num_bytes
        self._messages += 1
        self._schedule(leaves + link.latency_s, rank, frame)

    def _take_in(self, time: float, source: int, frame: Send) -> None:
        """The first byte of a frame reaches its receiver's interface, which may be busy."""
        duration = frame.num_bytes / self._cost.cluster.link(source, frame.peer).bandwidth_bytes_per_s
        done = max(time, self._ingress[frame.peer]) + duration
        self._ingress[frame.peer] = done
        self._arrive(frame, done)

    def _arrive(self, frame: Send, time: float) -> None:
        self._arrived[frame.tag] = time
        waiting = self._parked.pop(frame.tag, None)
        if waiting is not None:
            self._schedule(max(self._clock[waiting], time), waiting)

    def _record(self, rank: int, instruction: Instruction, start: float) -> None:
        event = trace_event(rank, instruction, start, self._clock[rank])
        if event is not None:
            self._events.append(event)


def trace_event(
    rank: int, instruction: Instruction, start_s: float, stop_s: float, *, request: int = 0
) -> TraceEvent | None:
    """Return one instruction as a trace event; None for those that take no time."""
    match instruction:
        case Compute():
            return TraceEvent(
                rank=rank,
                lane="compute",
                name=instruction.stage,
                kind="compute",
                stage=instruction.stage,
                start_s=start_s,
                stop_s=stop_s,
                request=request,
            )
        case Receive() | Send() | Assemble():
            kind = type(instruction).__name__.lower()
            return TraceEvent(
                rank=rank,
                lane="transfer" if kind != "assemble" else "compute",
                name=f"{kind} {instruction.tensor}",
                kind=kind,  # type: ignore[arg-type]
                stage=instruction.stage,
                start_s=start_s,
                stop_s=stop_s,
                request=request,
            )
    return None
