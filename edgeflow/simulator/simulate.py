"""A virtual clock over the very programs that workers run: requests that contend for devices and links.

Each request runs every rank's program as a process. A device runs one request until that waits for a frame;
then, of those that can go on, the one that was asked first, as workers do (`edgeflow.runtime.schedule`, whose
limits on how many may have begun are ignored here). Transfers take turns at the resources on their path. A
single request on an idle cluster takes exactly as long as `edgeflow.cost.predict` says.
"""

from __future__ import annotations

import statistics
from collections.abc import Generator, Mapping
from typing import Any

import msgspec
import simpy

from edgeflow.cost.model import CostModel
from edgeflow.cost.timeline import trace_event
from edgeflow.errors import ConfigError
from edgeflow.plan.plan import Plan
from edgeflow.plan.program import CLIENT, Compute, Instruction, Program, Receive, Send
from edgeflow.plan.verify import memory_bytes
from edgeflow.telemetry import TraceEvent

_Process = Generator[Any, Any, None]


class SimulationReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a simulated run looked like.

    Attributes:
        latency_s: Mean over requests, from arrival to the whole answer.
        p95_latency_s: 95th percentile (nearest rank).
        throughput_per_s: Requests answered per second, from the first arrival to the last answer.
        energy_j: Modelled: idle and compute power of every device over the whole run.
        transferred_bytes: Over links between hosts, all requests together.
        peak_memory_bytes: Device name -> weights and buffers of one request.
        busy_share: Device name -> share of the run in which it computed.
        latencies_s: Of each request, in the order of arrival.
        events: The timeline.
    """

    latency_s: float
    p95_latency_s: float
    throughput_per_s: float
    energy_j: float
    transferred_bytes: int
    peak_memory_bytes: Mapping[str, int]
    busy_share: Mapping[str, float]
    latencies_s: tuple[float, ...]
    events: tuple[TraceEvent, ...] = ()


def simulate(
    plan: Plan,
    requests: int = 100,
    *,
    interval_s: float | None = None,
    cost: CostModel | None = None,
    with_events: bool = False,
) -> SimulationReport:
    """Run a plan for a number of requests on a virtual clock.

    Args:
        requests: How many.
        interval_s: Time between arrivals; by default each request arrives when the one before is answered.
        cost: Costs on the plan's cluster; the roofline of its devices by default.
        with_events: Whether to keep the timeline.

    Raises:
        ConfigError: If ``requests`` is not positive, or ``interval_s`` is negative.
    """
    if requests < 1:
        raise ConfigError(f"requests must be at least 1, got {requests}")
    if interval_s is not None and interval_s < 0:
        raise ConfigError(f"interval_s must not be negative, got {interval_s:g}")
    run = _Run(plan, cost or CostModel(cluster=plan.cluster), with_events)
    run.environment.process(run.arrivals(requests, interval_s))
    run.environment.run()
    return run.report()


class _Run:
    def __init__(self, plan: Plan, cost: CostModel, with_events: bool) -> None:
        self.environment = simpy.Environment()
        self._plan = plan
        self._cost = cost
        self._programs = plan.programs
        self._with_events = with_events
        self._processor = {rank: simpy.PriorityResource(self.environment) for rank in self._programs}
        self._resources: dict[str, simpy.Resource] = {}
        self._arrival: dict[int, float] = {}
        self._answer: dict[int, float] = {}
        self._busy_s = dict.fromkeys(self._programs, 0.0)
        self._bytes = 0
        self._events: list[TraceEvent] = []

    def arrivals(self, requests: int, interval_s: float | None) -> _Process:
        for number in range(requests):
            self._arrival[number] = self.environment.now
            answered = self._start(number)
            if interval_s is None:
                yield answered
            else:
                yield self.environment.timeout(interval_s)

    def _start(self, number: int) -> Any:
        frames: dict[int, Any] = {}
        answered = None
        for rank, program in self._programs.items():
            process = self.environment.process(self._rank(number, rank, program, frames))
            if rank == CLIENT:
                answered = process
        return answered

    def _rank(self, number: int, rank: int, program: Program, frames: dict[int, Any]) -> _Process:
        """One rank's part of one request."""
        turn = yield from self._take_turn(number, rank)
        for instruction in program.instructions:
            start = self.environment.now
            if isinstance(instruction, Receive):
                self._end_turn(rank, turn)
                yield self._frame(frames, instruction.tag)
                turn = yield from self._take_turn(number, rank)
            seconds = self._cost.instruction_s(rank, instruction, program)
            yield self.environment.timeout(seconds)
            if isinstance(instruction, Compute):
                self._busy_s[rank] += seconds
            if isinstance(instruction, Send):
                self.environment.process(
                    self._transfer(rank, instruction, self._frame(frames, instruction.tag))
                )
            self._record(number, rank, instruction, start)
        self._end_turn(rank, turn)
        if rank == CLIENT:
            self._answer[number] = self.environment.now

    def _frame(self, frames: dict[int, Any], tag: int) -> Any:
        """The event "frame ``tag`` has arrived", made by whoever asks first."""
        if tag not in frames:
            frames[tag] = self.environment.event()
        return frames[tag]

    def _take_turn(self, number: int, rank: int) -> Generator[Any, Any, Any]:
        """Wait for the rank's processor; of several requests the first one has it first."""
        if rank == CLIENT:  # copies of different requests do not wait for each other there
            return None
        turn = self._processor[rank].request(priority=number)
        yield turn
        return turn

    def _end_turn(self, rank: int, turn: Any) -> None:
        if turn is not None:
            self._processor[rank].release(turn)

    def _transfer(self, rank: int, instruction: Send, arrived: Any) -> _Process:
        """A frame visits the resources of its path in order; see `edgeflow.cluster.network`."""
        path = self._cost.cluster.path(rank, instruction.peer)
        if path.is_local:
            yield self.environment.timeout(path.seconds(instruction.num_bytes))
            arrived.succeed()
            return
        self._bytes += instruction.num_bytes
        last_byte_s = 0.0
        for hop in path.hops:
            resource = self._resources.setdefault(hop.resource, simpy.Resource(self.environment))
            turn = resource.request()
            yield turn
            occupied = hop.occupied_s(instruction.num_bytes)
            last_byte_s = max(self.environment.now + occupied, last_byte_s) + hop.delay_s
            self.environment.process(self._leave(resource, turn, occupied))
            yield self.environment.timeout(hop.delay_s)
        yield self.environment.timeout(max(0.0, last_byte_s - self.environment.now))
        arrived.succeed()

    def _leave(self, resource: simpy.Resource, turn: Any, duration: float) -> _Process:
        yield self.environment.timeout(duration)
        resource.release(turn)

    def _record(self, number: int, rank: int, instruction: Instruction, start: float) -> None:
        if self._with_events:
            event = trace_event(rank, instruction, start, self.environment.now, request=number)
            if event is not None:
                self._events.append(event)

    def report(self) -> SimulationReport:
        latencies = tuple(self._answer[number] - start for number, start in sorted(self._arrival.items()))
        makespan = max(self._answer.values()) - min(self._arrival.values())
        devices = self._plan.cluster.devices
        ranks = [rank for rank in self._programs if rank != CLIENT]
        energy = sum(device.power_idle_w * makespan for device in devices)
        energy += sum(devices[rank].power_compute_w * self._busy_s[rank] for rank in ranks)
        memory = memory_bytes(self._programs)
        return SimulationReport(
            latency_s=statistics.fmean(latencies),
            p95_latency_s=sorted(latencies)[-(-95 * len(latencies) // 100) - 1],
            throughput_per_s=len(latencies) / makespan if makespan else float("inf"),
            energy_j=energy,
            transferred_bytes=self._bytes,
            peak_memory_bytes={devices[rank].name: memory[rank] for rank in ranks},
            busy_share={
                devices[rank].name: self._busy_s[rank] / makespan if makespan else 0.0 for rank in ranks
            },
            latencies_s=latencies,
            events=tuple(self._events),
        )
