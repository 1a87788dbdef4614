"""Requests in flight: the state of each on every rank, and which of them a device runs next."""

from __future__ import annotations

from enum import IntEnum
from heapq import heappop
from typing import Any, Final

from edgeflow.cluster.network import Transit
from edgeflow.simulator.blocks import Block, Course, Script

#: Most requests of one plan that a device has begun and not ended: the limit of a worker.
MAX_ACTIVE: Final = 4


class State(IntEnum):
    """State of one job on one rank."""

    UNKNOWN = 0  # no frame of it has arrived
    FRESH = 1
    WAITS = 2
    READY = 3
    RUNS = 4
    ENDED = 5


class Job:
    """One attempt to answer a request."""

    __slots__ = (
        "arrived",
        "began_s",
        "coming",
        "courses",
        "is_cancelled",
        "number",
        "since_s",
        "state",
        "way",
    )

    def __init__(self, number: int, way: Way, now_s: float, with_times: bool) -> None:
        self.number = number
        self.way = way
        self.began_s = now_s
        self.is_cancelled = False
        #: Tags of frames in the order of arrival (a dict as an ordered set).
        self.arrived: dict[int, None] = {}
        count = len(way.script.ranks)
        #: The block that each rank runs next.
        self.coming: list[Block | None] = list(way.script.blocks)
        self.courses: dict[int, Course] = {}
        for index, make in enumerate(way.script.courses):
            if make is not None:
                course = self.courses[index] = make()
                self.coming[index] = course.next()
        self.state = [State.UNKNOWN] * count
        #: When each rank began to wait; kept for timelines only.
        self.since_s = [now_s] * count if with_times else []

    def take(self, index: int) -> Block:
        """Return the block that a rank runs now, and advance to its next one."""
        block = self.coming[index]
        assert block is not None
        course = self.courses.get(index)
        self.coming[index] = block.then if course is None else course.next()
        return block

    def can_go_on(self, index: int) -> bool:
        """Return whether the frame that a rank's next block waits for has arrived.

        If the block has choices, replace it by the block of the choice that arrived first.
        """
        block = self.coming[index]
        assert block is not None
        if block.choices:
            tag = next((tag for tag in self.arrived if tag in block.choices), None)
            if tag is None:
                return False
            block = self.coming[index] = self.courses[index].choose(tag)
            assert block is not None
        return block.waits_for < 0 or block.waits_for in self.arrived

    def wants(self, index: int, tag: int) -> bool:
        """Return whether a rank's next block waits for the frame ``tag``."""
        block = self.coming[index]
        return block is not None and (block.waits_for == tag or tag in block.choices)


class Lane:
    """The jobs of one way on one device."""

    __slots__ = ("active", "fresh", "index", "processor", "ready", "way")

    def __init__(self, way: Way, index: int, processor: Processor) -> None:
        self.way = way
        self.index = index
        self.processor = processor
        self.ready: list[tuple[int, int, Job]] = []
        self.fresh: list[tuple[int, int, Job]] = []
        self.active: set[int] = set()

    def take(self, max_active: int) -> Job | None:
        """Return the job with the lowest number that can continue or may begin; None if there is none."""
        ready, fresh, index = self.ready, self.fresh, self.index
        while True:
            while ready and ready[0][2].is_cancelled:
                heappop(ready)
            while fresh and fresh[0][2].is_cancelled:
                heappop(fresh)
            if fresh and not (ready and ready[0][0] < fresh[0][0]):
                number = fresh[0][0]
                # The lowest may begin even at the limit: those begun may wait for devices that wait for it.
                if len(self.active) < max_active or number < min(self.active):
                    job = heappop(fresh)[2]
                    self.active.add(number)
                    if not job.can_go_on(index):
                        job.state[index] = State.WAITS
                        continue
                    return job
            return heappop(ready)[2] if ready else None


class Processor:
    """The processor of one device: its lanes, and totals of its work."""

    __slots__ = ("busy_s", "compute_s", "flops", "is_lost", "is_running", "lanes", "rank")

    def __init__(self, rank: int) -> None:
        self.rank = rank
        self.is_running = False
        self.is_lost = False
        self.lanes: list[Lane] = []
        self.busy_s = 0.0
        self.compute_s = 0.0
        self.flops = 0


class Way:
    """An installed script.

    Attributes:
        lost: Participating ranks of the cluster that are lost.
        jobs: Request number -> its job in flight.
    """

    __slots__ = ("jobs", "lanes", "lost", "script")

    def __init__(self, script: Script) -> None:
        self.script = script
        self.lanes: list[Lane | None] = []
        self.lost: set[int] = set()
        self.jobs: dict[int, Job] = {}


class Flight(Transit):
    """A frame in transit over the network."""

    job: Any = None
    frame: Any = None
    sent_s: float = 0.0
