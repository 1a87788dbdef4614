"""The ways of one plan: each request takes the way expected to answer it first."""

from __future__ import annotations

from heapq import heappop, heappush

import numpy as np

from edgeflow.simulator.jobs import Way
from edgeflow.simulator.machines import Machines


class Fleet:
    """The ways of one plan.

    A way with k requests before the new one is expected to answer it after its latency on an idle cluster
    plus k of its periods. Each way runs at most ``max_in_flight`` requests; the others wait in its queue.

    Args:
        number: Number of the plan, in the order of adoption.
        ways: Installed ways.
    """

    def __init__(self, number: int, ways: list[Way], machines: Machines, *, max_in_flight: int) -> None:
        self.number = number
        self.ways = ways
        self._machines = machines
        self._max_in_flight = max_in_flight
        self._queues: list[list[int]] = [[] for _ in ways]
        self._way_of: dict[int, int] = {}
        self._is_closed = [False] * len(ways)
        self._periods = np.array([way.script.period_s for way in ways])
        #: Seconds that one more request is expected to take on each way, with those before it.
        self._expected = np.array([way.script.latency_s for way in ways])

    @property
    def is_open(self) -> bool:
        """Whether any way takes requests."""
        return not all(self._is_closed)

    @property
    def is_idle(self) -> bool:
        """Whether no request is queued or in flight."""
        return not self._way_of

    def assign(self, number: int) -> None:
        """Assign a request to a way; it begins at once, or when the way has room."""
        index = int(self._expected.argmin()) if len(self.ways) > 1 else 0
        assert not self._is_closed[index]
        self._expected[index] += self._periods[index]
        self._way_of[number] = index
        if len(self.ways[index].jobs) < self._max_in_flight:
            self._machines.start(self.ways[index], number)
        else:
            heappush(self._queues[index], number)

    def way_of(self, number: int) -> int:
        return self._way_of[number]

    def answered(self, number: int) -> None:
        """Record that a request is answered, and start the next one of its way's queue."""
        index = self._way_of.pop(number)
        self._expected[index] -= self._periods[index]
        queue = self._queues[index]
        if queue and not self._is_closed[index]:
            self._machines.start(self.ways[index], heappop(queue))

    def close_lost(self) -> tuple[list[int], list[int]]:
        """Close the ways that have lost a device.

        Returns:
            Requests that were in flight there, now cancelled, and requests that had not begun.
        """
        begun: list[int] = []
        waiting: list[int] = []
        for index, way in enumerate(self.ways):
            if not way.lost or self._is_closed[index]:
                continue
            self._is_closed[index] = True
            self._expected[index] = float("inf")
            begun += way.jobs
            waiting += self._queues[index]
            self._queues[index] = []
            for job in list(way.jobs.values()):
                self._machines.cancel(job)
        for number in (*begun, *waiting):
            del self._way_of[number]
        return sorted(begun), sorted(waiting)

    def retire(self) -> list[int]:
        """Take no more requests; return those that had not begun. Requests in flight are still answered."""
        waiting = sorted(number for queue in self._queues for number in queue)
        self._queues = [[] for _ in self.ways]
        for number in waiting:
            del self._way_of[number]
        return waiting

    def remove(self) -> None:
        """Forget the ways of a fleet that is idle."""
        for way in self.ways:
            self._machines.remove(way)
