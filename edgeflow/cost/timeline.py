"""One request on an idle cluster, on a virtual clock: the prediction that plans are compared by.

Every rank runs its program in order; a send leaves when the rank reaches it, and visits the resources on its
path in turn (`edgeflow.cluster.network`); a receive waits for its frame. Transfers queue at a resource in the
order in which their first bytes get there.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import msgspec

from edgeflow.cluster.network import Transit, Turns
from edgeflow.cost.energy import DeviceEnergy, modelled
from edgeflow.cost.model import CostModel
from edgeflow.errors import InvalidPlanError
from edgeflow.plan.decision import Decision
from edgeflow.plan.plan import Plan
from edgeflow.plan.program import (
    CLIENT,
    Assemble,
    Compute,
    Instruction,
    Program,
    Receive,
    Send,
    shared_stages,
)
from edgeflow.plan.walk import Next, Walk
from edgeflow.telemetry import TraceEvent


class Prediction(msgspec.Struct, frozen=True, kw_only=True):
    """The predicted cost of one request.

    Attributes:
        latency_s: Seconds from its arrival to its complete answer.
        compute_s: Rank -> seconds of its kernels.
        transferred_bytes: Bytes over links between devices, and between the client and other hosts.
        num_messages: Frames over those links.
        busy_s: Resource -> seconds that one of many requests occupies it: ``processor:<device>`` (kernels,
            copies and frames), and the network's, for example ``egress:<device>`` or ``medium:<name>``.
            When requests are many, all devices of the plan compute at once.
        energy: Rank -> modelled energy, of all devices of the cluster, idle ones included.
        events: The timeline, if requested.
    """

    latency_s: float
    compute_s: Mapping[int, float]
    transferred_bytes: int
    num_messages: int
    busy_s: Mapping[str, float] = {}
    energy: Mapping[int, DeviceEnergy] = {}
    events: tuple[TraceEvent, ...] = ()

    @property
    def period_s(self) -> float:
        """Least time between two answers under load: the busy time of the busiest resource."""
        return max(self.busy_s.values(), default=0.0)

    @property
    def bottleneck(self) -> str:
        """The resource that sets the period."""
        return max(sorted(self.busy_s), key=lambda name: self.busy_s[name], default="")

    @property
    def energy_j(self) -> float:
        """Of one request on an otherwise idle cluster, idle power included; modelled."""
        return sum(item.total_j for item in self.energy.values())

    @property
    def active_energy_j(self) -> float:
        """The same without idle energy."""
        return sum(item.active_j for item in self.energy.values())


def predict(plan: Plan | Decision, cost: CostModel | None = None, *, with_events: bool = True) -> Prediction:
    """Predict one request of a plan on an idle cluster.

    Raises:
        InfeasiblePlanError: If it sends a frame between devices that have no link.
    """
    return predict_programs(plan.programs, cost or CostModel(cluster=plan.cluster), with_events=with_events)


def predict_programs(
    programs: Mapping[int, Program],
    cost: CostModel,
    *,
    with_events: bool = False,
    is_one_of_many: bool = False,
) -> Prediction:
    """Predict one request of lowered programs.

    Args:
        is_one_of_many: Whether the plan has other ways to answer, whose devices compute at the same time
            under load.

    Raises:
        InfeasiblePlanError: If one sends a frame to a device that it has no link to.
        InvalidPlanError: If the programs wait for each other in a circle.
    """
    kind = _ClaimingClockwork if any(program.has_claims for program in programs.values()) else _Clockwork
    return kind(programs, cost, with_events, is_one_of_many).run()


class _Transfer(msgspec.Struct):
    """A frame under way."""

    frame: Send
    transit: Transit


class _Clockwork:
    """Events in the order of time: a rank's next instruction, or a frame that reaches a resource."""

    def __init__(
        self, programs: Mapping[int, Program], cost: CostModel, with_events: bool, is_one_of_many: bool
    ) -> None:
        self._programs = programs
        self._cost = cost
        self._with_events = with_events
        self._shared = shared_stages(programs) if cost.contention > 1 else frozenset()
        #: By how much longer the other stages take when requests are many.
        is_crowded = cost.contention > 1 and (is_one_of_many or len(_computing(programs)) > 1)
        self._crowding = cost.contention - 1 if is_crowded else 0.0
        self._agenda: list[tuple[float, int, Any]] = []
        self._next = dict.fromkeys(programs, 0)
        self._clock = dict.fromkeys(programs, 0.0)
        self._arrived: dict[int, float] = {}
        #: Tag -> the rank that waits for the frame.
        self._parked: dict[int, int] = {}
        self._turns: defaultdict[str, Turns] = defaultdict(Turns)
        self._compute_s = {rank: 0.0 for rank in programs if rank != CLIENT}
        self._processor_s = dict.fromkeys(self._compute_s, 0.0)
        self._crowding_s = dict.fromkeys(self._compute_s, 0.0)
        self._flops = dict.fromkeys(self._compute_s, 0)
        self._sent = dict.fromkeys(cost.cluster.ranks, 0)
        self._received = dict.fromkeys(cost.cluster.ranks, 0)
        self._messages = 0
        self._events: list[TraceEvent] = []

    def run(self) -> Prediction:
        for rank in self._programs:
            self._schedule(0.0, rank)
        while self._agenda:
            time, _, what = heapq.heappop(self._agenda)
            if isinstance(what, _Transfer):
                self._pass(time, what)
            else:
                self._advance(what)
        if self._parked:
            raise InvalidPlanError(
                f"ranks {sorted(self._parked.values())} wait for frames that are never sent"
            )
        devices = self._cost.cluster.devices
        processors = {
            f"processor:{devices[rank].name}": seconds + self._crowding_s[rank]
            for rank, seconds in self._processor_s.items()
        }
        return Prediction(
            latency_s=self._clock[CLIENT],
            compute_s=self._compute_s,
            transferred_bytes=sum(self._sent.values()),
            num_messages=self._messages,
            busy_s={**processors, **{name: turns.busy_s for name, turns in sorted(self._turns.items())}},
            energy={rank: self._energy(rank) for rank in self._cost.cluster.ranks},
            events=tuple(self._events),
        )

    def _energy(self, rank: int) -> DeviceEnergy:
        return modelled(
            self._cost.cluster.devices[rank],
            elapsed_s=self._clock[CLIENT],
            busy_s=self._processor_s.get(rank, 0.0),
            flops=self._flops.get(rank, 0),
            sent_bytes=self._sent[rank],
            received_bytes=self._received[rank],
        )

    def _schedule(self, time: float, what: int | _Transfer) -> None:
        """Let a rank go on at ``time``, or a frame reach its next resource.

        At equal times ranks go first, then frames in the order of their tags.
        """
        heapq.heappush(self._agenda, (time, what.frame.tag if isinstance(what, _Transfer) else -1, what))

    def _advance(self, rank: int) -> None:
        """Run instructions until one waits. No later event on another rank changes their times."""
        program, arrived = self._programs[rank], self._arrived
        instructions = program.instructions
        for index in range(self._next[rank], len(instructions)):
            instruction = instructions[index]
            if isinstance(instruction, Receive) and instruction.tag not in arrived:
                self._parked[instruction.tag] = rank
                self._next[rank] = index
                return
            self._carry_out(rank, program, instruction)
        self._next[rank] = len(instructions)

    def _carry_out(self, rank: int, program: Program, instruction: Instruction) -> None:
        start = ready = self._clock[rank]
        if isinstance(instruction, Receive):
            ready = max(start, self._arrived.pop(instruction.tag))
        seconds = self._cost.instruction_s(rank, instruction, program, self._shared)
        self._clock[rank] = ready + seconds
        if rank in self._processor_s:
            self._processor_s[rank] += seconds
        if isinstance(instruction, Compute):
            self._compute_s[rank] += seconds
            self._flops[rank] += instruction.flops
            if self._crowding and instruction.stage not in self._shared:
                self._crowding_s[rank] += self._crowding * seconds
        elif isinstance(instruction, Send):
            self._send(rank, instruction)
        if self._with_events:
            self._record(rank, instruction, start)

    def _send(self, rank: int, frame: Send) -> None:
        path, num_bytes = self._cost.cluster.path(rank, frame.peer), frame.num_bytes
        if path.is_local:
            self._arrive(frame, self._clock[rank] + path.seconds(num_bytes))
            return
        source = self._cost.cluster.source_rank
        self._sent[rank if rank != CLIENT else source] += num_bytes
        self._received[frame.peer if frame.peer != CLIENT else source] += num_bytes
        self._messages += 1
        self._schedule(self._clock[rank], _Transfer(frame, Transit(path.hops, num_bytes)))

    def _pass(self, time: float, transfer: _Transfer) -> None:
        """The first byte of a frame reaches a resource, which may be busy."""
        transit = transfer.transit
        then = transit.move(time, self._turns[transit.hops[transit.position].resource])
        if transit.has_left:
            self._arrive(transfer.frame, then)
        else:
            self._schedule(then, transfer)

    def _arrive(self, frame: Send, time: float) -> None:
        self._arrived[frame.tag] = time
        waiting = self._parked.pop(frame.tag, None)
        if waiting is not None:
            self._schedule(max(self._clock[waiting], time), waiting)

    def _record(self, rank: int, instruction: Instruction, start: float) -> None:
        event = trace_event(rank, instruction, start, self._clock[rank])
        if event is not None:
            self._events.append(event)


class _ClaimingClockwork(_Clockwork):
    """A clockwork for programs with claims: the instructions that a rank runs are decided on the way."""

    def __init__(
        self, programs: Mapping[int, Program], cost: CostModel, with_events: bool, is_one_of_many: bool
    ) -> None:
        super().__init__(programs, cost, with_events, is_one_of_many)
        self._walks = {rank: Walk(program) for rank, program in programs.items()}
        self._then: dict[int, Next] = {rank: walk.next() for rank, walk in self._walks.items()}

    def _advance(self, rank: int) -> None:
        program, then = self._programs[rank], self._then[rank]
        if isinstance(then, int):
            instruction = program.instructions[then]
            if isinstance(instruction, Receive) and not self._has_come(rank, (instruction,)):
                return
            self._carry_out(rank, program, instruction)
            self._schedule(self._clock[rank], rank)
        elif isinstance(then, Send):
            self._carry_out(rank, program, then)
            self._schedule(self._clock[rank], rank)
        elif isinstance(then, tuple):
            if not self._has_come(rank, then):
                return
            first = min(
                (item for item in then if item.tag in self._arrived),
                key=lambda item: (self._arrived[item.tag], item.tag),
            )
            moment = self._arrived[first.tag]
            if first.buffer < 0:  # a question; other frames are received by an instruction of their own
                del self._arrived[first.tag]
            self._clock[rank] = max(self._clock[rank], moment)
            self._walks[rank].choose(first)
            self._schedule(self._clock[rank], rank)
        else:
            return
        self._then[rank] = self._walks[rank].next()

    def _has_come(self, rank: int, receives: tuple[Receive, ...]) -> bool:
        """Return whether one of these frames has arrived; if not, let the rank wait for them."""
        if any(item.tag in self._arrived for item in receives):
            return True
        self._parked |= dict.fromkeys((item.tag for item in receives), rank)
        return False

    def _arrive(self, frame: Send, time: float) -> None:
        # Deliver at its time only: the order of arrivals decides which task is claimed.
        self._schedule(time, _Transfer(frame, Transit((), frame.num_bytes)))

    def _pass(self, time: float, transfer: _Transfer) -> None:
        if transfer.transit.hops:
            super()._pass(time, transfer)
            return
        rank = self._parked.get(transfer.frame.tag)
        super()._arrive(transfer.frame, time)
        self._parked = {tag: waiting for tag, waiting in self._parked.items() if waiting != rank}


def _computing(programs: Mapping[int, Program]) -> list[int]:
    return [
        rank
        for rank, program in programs.items()
        if any(isinstance(item, Compute) for item in program.instructions)
    ]


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
