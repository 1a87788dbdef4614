"""Processors and the network: jobs pass through their blocks, frames through their hops.

A device runs a job until it waits for a frame. Then it runs the earliest request that can continue, of the
earliest plan first: the rule of `edgeflow.rank.schedule`, maintained incrementally instead of searched for.
    Frames
take turns at resources (`edgeflow.cluster.network.Transit`).

An approximation: a frame gets its turn at a resource when its first byte reaches it. Frames that a lost
    device
had in a queue still take their turn, although nobody receives them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from heapq import heappush
from typing import Any

from edgeflow.cluster.network import Turns
from edgeflow.plan.program import CLIENT, Compute
from edgeflow.simulator.blocks import Block, Frame, Script
from edgeflow.simulator.clock import FIRST, Clock, Happening, transfer_order
from edgeflow.simulator.conditions import Conditions
from edgeflow.simulator.jobs import MAX_ACTIVE, Flight, Job, Lane, Processor, State, Way
from edgeflow.simulator.onlooker import Onlooker


class Machines:
    """All devices and the network of a cluster.

    Args:
        on_answer: Called with the number of a request when its answer is complete.
        max_active: Most requests of one plan that a device has begun and not ended.
        onlooker: Receives events for a timeline or a balancer, if there is one.
    """

    def __init__(
        self,
        clock: Clock,
        conditions: Conditions,
        on_answer: Callable[[int], None],
        *,
        max_active: int = MAX_ACTIVE,
        onlooker: Onlooker | None = None,
    ) -> None:
        self._clock = clock
        self._conditions = conditions
        self._on_answer = on_answer
        self._max_active = max_active
        self._onlooker = onlooker
        self._serial = 0
        self.turns: defaultdict[str, Turns] = defaultdict(Turns)
        ranks = conditions.cluster.ranks
        self.processors = [Processor(rank) for rank in ranks]
        #: Processors of lost devices that have joined again.
        self.retired: list[Processor] = []
        self.sent = [0] * len(ranks)
        self.received = [0] * len(ranks)
        self._speed = {rank: conditions.speed(rank) for rank in (CLIENT, *ranks)}
        self._source = conditions.cluster.source_rank
        # Bound once, since every event carries one of them.
        self._hop = (self._on_hop,)
        self._arrival = (self._on_arrival,)
        self._local = (self._on_local,)
        self._done = (self._on_done,)
        self._client_done = (self._on_client_done,)

    # Ways and requests.

    def install(self, script: Script) -> Way:
        """Install a script on the processors and return it as a way that can answer requests."""
        way = Way(script)
        for index, rank in enumerate(script.ranks):
            if rank == CLIENT:
                way.lanes.append(None)
                continue
            processor = self.processors[rank]
            lane = Lane(way, index, processor)
            way.lanes.append(lane)
            processor.lanes.append(lane)
            if processor.is_lost:
                way.lost.add(rank)
        return way

    def remove(self, way: Way) -> None:
        """Remove a way that has no jobs and gets no more."""
        assert not way.jobs
        for lane in way.lanes:
            if lane is not None and lane in lane.processor.lanes:
                lane.processor.lanes.remove(lane)

    def start(self, way: Way, number: int) -> None:
        """Start a job for request ``number``."""
        now_s = self._clock.now
        job = way.jobs[number] = Job(number, way, now_s, self._onlooker is not None)
        for index, block in enumerate(way.script.blocks):
            if index and block.begins_at_once:
                self._know(job, index)
        self._run_client(job)

    def cancel(self, job: Job) -> None:
        """Cancel a job; a device that runs a block of it finishes that block."""
        job.is_cancelled = True
        del job.way.jobs[job.number]
        for lane in job.way.lanes:
            if lane is not None:
                lane.active.discard(job.number)
                self._kick(lane.processor)

    def lose(self, rank: int) -> None:
        """Lose a device and all its work."""
        processor = self.processors[rank]
        processor.is_lost = True
        for lane in processor.lanes:
            lane.way.lost.add(rank)

    def join(self, rank: int) -> None:
        """Let a device join, with nothing loaded; ways that lost it stay lost."""
        self.retired.append(self.processors[rank])
        self.processors[rank] = Processor(rank)
        name = self._conditions.cluster.devices[rank].name
        for resource in (f"egress:{name}", f"ingress:{name}"):
            self.turns[resource].free_s = min(self.turns[resource].free_s, self._clock.now)

    # Processors.

    def _know(self, job: Job, index: int) -> None:
        """Make a request known to a rank."""
        lane = job.way.lanes[index]
        assert lane is not None
        job.state[index] = State.FRESH
        heappush(lane.fresh, (job.number, self._next_serial(), job))
        self._kick(lane.processor)

    def _next_serial(self) -> int:
        self._serial += 1
        return self._serial

    def _kick(self, processor: Processor) -> None:
        """Let an idle processor choose what to run."""
        if processor.is_running or processor.is_lost:
            return
        for lane in processor.lanes:
            job = lane.take(self._max_active)
            if job is not None:
                self._run(lane, job)
                return

    def _run(self, lane: Lane, job: Job) -> None:
        index, processor = lane.index, lane.processor
        block = job.take(index)
        job.state[index] = State.RUNS
        processor.is_running = True
        if self._onlooker is not None or self._speed[processor.rank] is not None:
            stop_s, busy_s, compute_s, seen = self._play(job, index, block)
        else:
            stop_s, busy_s, compute_s, seen = self._clock.now, block.processor_s, block.compute_s, None
            for run, frame in block.runs:
                for seconds in run:
                    stop_s += seconds
                if frame is not None:
                    self._send(job, frame, stop_s)
        done = (lane, job, block, busy_s, compute_s, seen)
        self._clock.at(stop_s, Happening(self._done, FIRST, done))

    def _play(
        self, job: Job, index: int, block: Block
    ) -> tuple[float, float, float, list[tuple[Any, float, float]]]:
        """Run a block one instruction at a time, as varying speeds, timelines and balancers need it."""
        profile = self._speed[job.way.script.ranks[index]]
        start_s = now_s = self._clock.now
        compute_s = 0.0
        seen = []
        for step in block.steps:
            before_s = now_s
            now_s = now_s + step.seconds if profile is None else profile.finish(now_s, step.seconds)
            if isinstance(step.instruction, Compute):
                compute_s += now_s - before_s
            if step.frame is not None:
                self._send(job, step.frame, now_s)
            seen.append((step, before_s, now_s))
        return now_s, now_s - start_s, compute_s, seen

    def _on_done(self, happening: Happening) -> None:
        lane, job, block, busy_s, compute_s, seen = happening.what
        processor, index = lane.processor, lane.index
        if processor.is_lost:
            return
        processor.is_running = False
        processor.busy_s += busy_s
        processor.compute_s += compute_s
        processor.flops += block.flops
        if seen is not None and self._onlooker is not None:
            self._onlooker.ran(job, index, seen, self._clock.now)
        if not job.is_cancelled:
            self._go_on(lane, job)
        self._kick(processor)

    def _go_on(self, lane: Lane, job: Job) -> None:
        """Set a job's state after its block has ended on a device."""
        index = lane.index
        if job.coming[index] is None:
            job.state[index] = State.ENDED
            lane.active.discard(job.number)
        elif job.can_go_on(index):
            job.state[index] = State.READY
            heappush(lane.ready, (job.number, self._next_serial(), job))
        else:
            job.state[index] = State.WAITS

    # The client, on which requests do not wait for each other.

    def _run_client(self, job: Job) -> None:
        while True:
            if not job.can_go_on(0):
                job.state[0] = State.WAITS
                return
            job.state[0] = State.RUNS
            block = job.take(0)
            stop_s, _, _, seen = self._play(job, 0, block)
            if self._onlooker is not None:
                self._onlooker.ran(job, 0, seen, self._clock.now)
            if stop_s > self._clock.now or job.coming[0] is None:
                order = transfer_order(job.number, 0)
                self._clock.at(stop_s, Happening(self._client_done, order, job))
                return

    def _on_client_done(self, happening: Happening) -> None:
        job: Job = happening.what
        if job.is_cancelled:
            return
        if job.coming[0] is not None:
            self._run_client(job)
            return
        del job.way.jobs[job.number]
        if self._onlooker is not None:
            self._onlooker.answered(job, self._clock.now)
        self._on_answer(job.number)

    # The network.

    def _send(self, job: Job, frame: Frame, time_s: float) -> None:
        order = transfer_order(job.number, frame.tag)
        if frame.hops:
            flight = Flight(frame.hops, frame.num_bytes, job=job, frame=frame, sent_s=time_s)
            self._clock.at(time_s, Happening(self._hop, order, flight))
        else:
            flight_s = time_s + frame.local_s
            self._clock.at(flight_s, Happening(self._local, order, (job, frame)))

    def _on_hop(self, happening: Happening) -> None:
        flight: Flight = happening.what
        if flight.position == 0:
            job, frame = flight.job, flight.frame
            way = job.way
            if job.is_cancelled or (way.lost and way.script.ranks[frame.source] in way.lost):
                return  # it was never sent
            ranks = way.script.ranks
            sender, receiver = ranks[frame.source], ranks[frame.destination]
            self.sent[sender if sender >= 0 else self._source] += frame.num_bytes
            self.received[receiver if receiver >= 0 else self._source] += frame.num_bytes
        then_s = flight.move(self._clock.now, self.turns[flight.hops[flight.position].resource])
        happening.callbacks = self._arrival if flight.has_left else self._hop
        self._clock.at(then_s, happening)

    def _on_arrival(self, happening: Happening) -> None:
        flight: Flight = happening.what
        if self._onlooker is not None:
            self._onlooker.arrived(flight, self._clock.now)
        self._arrive(flight.job, flight.frame)

    def _on_local(self, happening: Happening) -> None:
        job, frame = happening.what
        self._arrive(job, frame)

    def _arrive(self, job: Job, frame: Frame) -> None:
        way = job.way
        index = frame.destination
        if job.is_cancelled or (way.lost and way.script.ranks[index] in way.lost):
            return
        job.arrived[frame.tag] = None
        state = job.state[index]
        if state is State.UNKNOWN and index:
            self._know(job, index)
        elif state is State.WAITS and job.wants(index, frame.tag):
            if index == 0:
                self._run_client(job)
                return
            job.can_go_on(index)  # makes the choice now, if the block has choices
            lane = way.lanes[index]
            assert lane is not None
            job.state[index] = State.READY
            heappush(lane.ready, (job.number, self._next_serial(), job))
            self._kick(lane.processor)
