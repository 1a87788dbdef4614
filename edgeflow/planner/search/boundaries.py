"""Boundaries of one layer between devices in a fixed order, such that the last device is done first.

A device is done later the higher its upper boundary and the lower its lower boundary. So for a given time the
devices can be gone through in order, each taking as many rows as it can finish by then; bisection finds the
least time for which they take all rows. Exact for the order of the devices and the costs in use.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from itertools import pairwise
from math import inf, isfinite

from edgeflow.planner.estimates.arrays import Floats
from edgeflow.planner.estimates.strips import Strips

#: Relative precision of a layer's finishing time.
_PRECISION = 1e-7

#: ``[0, B_1, ..., size]``.
Bounds = tuple[int, ...]


class Layer:
    """One operator whose boundaries are to be chosen.

    Args:
        strips: What positions of the result read.
        seconds: ``[device, n]``: seconds of the kernel of n positions.
        begin_s: Device -> when it is free and has the tensors that every strip reads whole.
        wanted: Boundaries with which rows stay where they are, or nearly; None if all are at the client.
        arrival_s: ``(device, tensor, first, stop)`` -> when the device has positions ``[first, stop)`` of a
            tensor.
    """

    def __init__(
        self,
        strips: Strips,
        *,
        seconds: Floats,
        begin_s: list[float],
        wanted: Bounds | None,
        arrival_s: Callable[[int, str, int, int], float],
    ) -> None:
        self.size = strips.size
        self.wanted = wanted
        self._find_arrival_s = arrival_s
        self._reads = [(item.tensor, item.first.tolist(), item.stop.tolist()) for item in strips.reads]
        self._arrival_s: dict[tuple[int, str, int, int], float] = {}
        #: Device -> how many positions it took when it was last asked; a guess at first.
        self._taken = [strips.size // len(begin_s)] * len(begin_s)
        #: ``[device][n]``: seconds of n positions.
        self._seconds: list[list[float]] = seconds.tolist()
        self._begin_s = begin_s

    def divide(self) -> Bounds:
        """Return the boundaries with which the last device is done first, moving as few rows as can be."""
        count, size = len(self._begin_s), self.size
        alone = [self.done_s(index, 0, size) for index in range(count)]
        index = alone.index(min(alone))
        best: Bounds = (*[0] * (index + 1), *[size] * (count - index))
        low, high = min(self._begin_s), alone[index]
        if self.wanted is not None:  # rows stay where they are: often nearly as good as can be
            high = min(high, max(self._ends_s(self.wanted)))
        best = self._sweep(high)[0] or best
        part = 1 / 16
        while high - low > _PRECISION * high:
            until_s = high - part * (high - low)
            bounds, next_s = self._sweep(until_s)
            if bounds is None:
                low, part = next_s, 1 / 2
            else:
                best, high = bounds, max(self._ends_s(bounds))
                part = min(2 * part, 1 / 2)
        return self._nearest(best, high)

    def _nearest(self, latest: Bounds, until_s: float) -> Bounds:
        """Return the boundaries nearest to where the rows are, with which all devices are done in time.

        Args:
            latest: The boundaries of the sweep: none can lie further to the right.
        """
        wanted = self.wanted
        if wanted is None:
            return latest
        if max(self._ends_s(wanted)) <= until_s:
            return wanted
        earliest = [self.size]
        for index in reversed(range(1, len(latest) - 1)):
            earliest.append(self._earliest_start(index, earliest[-1], until_s))
        earliest = [0, *reversed(earliest)]
        bounds = [0]
        for index in range(len(latest) - 1):
            reach, _ = self._reach(index, bounds[-1], until_s)
            bounds.append(max(min(wanted[index + 1], reach), earliest[index + 1], bounds[-1]))
        return tuple(bounds)

    def _earliest_start(self, index: int, stop: int, until_s: float) -> int:
        """The smallest start from which device ``index`` is done with all up to ``stop`` in time."""
        low, high = 0, stop  # from `high`, with nothing to do, it is
        while low < high:
            middle = (low + high) // 2
            if self.done_s(index, middle, stop) <= until_s:
                high = middle
            else:
                low = middle + 1
        return high

    def _sweep(self, until_s: float) -> tuple[Bounds | None, float]:
        """Let each device take as much as it can do in time.

        Returns:
            The boundaries, None if something is left; and until when a sweep would leave the same.
        """
        bounds, then_s = [0], inf
        for index in range(len(self._begin_s)):
            reach, next_s = self._reach(index, bounds[-1], until_s)
            bounds.append(reach)
            then_s = min(then_s, next_s)
        return (tuple(bounds) if bounds[-1] == self.size else None), then_s

    def _reach(self, index: int, start: int, until_s: float) -> tuple[int, float]:
        """Return how far device ``index`` gets from ``start`` in time, and when it would get further."""
        low, high, next_s = start, self.size, inf
        if low == high:
            return low, next_s
        # Mostly it waits as long as for what it took the last time.
        likely_s = self._begins_s(index, start, min(start + max(self._taken[index], 1), high))
        guess = start + bisect_right(self._seconds[index], until_s - likely_s) - 1
        guesses = [guess + 1, guess]
        while low < high:
            middle = guesses.pop() if guesses else (low + high + 1) // 2
            if not low < middle <= high:
                continue
            seconds = self.done_s(index, start, middle)
            if seconds <= until_s:
                low = middle
            else:
                high, next_s = middle - 1, seconds
        self._taken[index] = low - start
        return low, next_s

    def done_s(self, index: int, start: int, stop: int) -> float:
        """When device ``index`` is done with ``[start, stop)``; it grows with ``stop``."""
        return self._begins_s(index, start, stop) + self._seconds[index][stop - start]

    def _begins_s(self, index: int, start: int, stop: int) -> float:
        """When device ``index`` is free and has all that ``[start, stop)`` reads."""
        begin_s = self._begin_s[index]
        for tensor, first, after in self._reads:
            question = (index, tensor, first[start], after[stop - 1])
            arrival_s = self._arrival_s.get(question)
            if arrival_s is None:
                arrival_s = self._arrival_s[question] = self._find_arrival_s(*question)
            begin_s = max(begin_s, arrival_s)
        return begin_s

    def _ends_s(self, bounds: Bounds) -> list[float]:
        return [end for end in self.finish_s(bounds) if isfinite(end)]

    def finish_s(self, bounds: Bounds) -> list[float]:
        """Device -> when it is done with its part; infinite for one without."""
        return [
            self.done_s(index, start, stop) if stop > start else inf
            for index, (start, stop) in enumerate(pairwise(bounds))
        ]
