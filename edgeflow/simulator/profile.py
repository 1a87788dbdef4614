"""Rates that change with time, and how long work takes under them."""

from __future__ import annotations

import itertools
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from edgeflow.errors import ConfigError


class TraceEndedError(ConfigError):
    """A trace ends before the simulation does.

    Attributes:
        trace: The quantity of the trace, as in `Trace.of`.
        end_s: When it ends.
    """

    def __init__(self, trace: str, end_s: float, *, reached: str = "") -> None:
        super().__init__(
            f"the trace of {trace} ended at {end_s:g} s, the simulation goes on"
            + (f": {reached}" if reached else "")
            + "; give a longer trace, fewer requests, or `repeat: true`"
        )
        self.trace = trace
        self.end_s = end_s


class Profile:
    """A piecewise constant factor: each holds from its time until the next one.

    Work that takes s seconds at factor 1 ends when the integral of the factor over time has grown by s.
    Exact, O(log n).

    Args:
        times_s: Increasing, the first one 0.
        factors: Not negative, one per time.
        end_s: Where it ends; infinite if the last factor holds for ever.
        is_repeated: Whether it begins again at ``end_s``.
        name: The quantity of the trace, for messages.
    """

    __slots__ = ("_end_s", "_factors", "_integrals", "_is_repeated", "_times", "_whole", "name")

    def __init__(
        self,
        times_s: Sequence[float],
        factors: Sequence[float],
        *,
        end_s: float = float("inf"),
        is_repeated: bool = False,
        name: str = "",
    ) -> None:
        assert times_s[0] == 0.0 and len(times_s) == len(factors)
        self._times = list(times_s)
        self._factors = list(factors)
        self._end_s = end_s
        self._is_repeated = is_repeated
        self.name = name
        spans = [stop - start for start, stop in itertools.pairwise([*times_s, end_s])]
        amounts = [f * span if f else 0.0 for f, span in zip(factors, spans, strict=True)]
        #: Integral of the factor from 0 to each time, and to the end.
        self._integrals = [0.0, *itertools.accumulate(amounts)]
        self._whole = self._integrals[-1]
        if is_repeated and self._whole <= 0:
            raise ConfigError(f"the trace of {name} is always zero: work that waits for it never ends")

    @property
    def last_s(self) -> float:
        """When it ends; infinite if it is repeated."""
        return float("inf") if self._is_repeated else self._end_s

    def factor(self, time_s: float) -> float:
        """Return the factor at ``time_s``.

        Raises:
            TraceEndedError: If the profile has ended by then.
        """
        if self._is_repeated:
            time_s %= self._end_s
        elif time_s >= self._end_s:
            raise TraceEndedError(self.name, self._end_s)
        return self._factors[bisect_right(self._times, time_s) - 1]

    def finish(self, start_s: float, seconds: float) -> float:
        """Return when work ends that begins at ``start_s`` and takes ``seconds`` at factor 1.

        Raises:
            TraceEndedError: If the profile ends before the work does.
        """
        origin_s = 0.0
        if self._is_repeated:
            origin_s = start_s // self._end_s * self._end_s
        elif start_s > self._end_s:
            raise TraceEndedError(self.name, self._end_s)
        index = min(bisect_right(self._times, start_s - origin_s), len(self._times)) - 1
        factor = self._factors[index]
        goal = self._integrals[index] + factor * (start_s - origin_s - self._times[index]) + seconds
        if seconds <= 0:
            return start_s
        if factor > 0 and goal <= self._integrals[index + 1]:  # most work ends before the factor changes
            return start_s + seconds / factor
        if self._is_repeated:
            rounds = goal // self._whole
            goal -= rounds * self._whole
            origin_s += rounds * self._end_s
        elif goal > self._whole:
            raise TraceEndedError(self.name, self._end_s)
        index = max(0, bisect_left(self._integrals, goal) - 1)
        if goal <= 0:  # a whole number of rounds
            return max(start_s, origin_s)
        rest_s = (goal - self._integrals[index]) / self._factors[index]
        return max(start_s, origin_s + self._times[index] + rest_s)
