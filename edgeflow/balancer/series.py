"""Estimate the level of a noisy series with outliers and occasional steps.

Everything is a median, so that fewer than half of the latest values may be arbitrary. A step must exceed the
noise that the series itself has shown.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections import deque
from collections.abc import Sequence
from typing import Final

#: Number of latest values searched for a step; the step is seen once more than half of them lie beyond it.
RECENT: Final = 13

#: Most values that the level is the median of; a slow drift within them is followed as a step.
_SETTLED: Final = 101

#: Fewest values for an estimate.
MIN_VALUES: Final = 5

#: Ignore smaller steps (natural logarithm): they are not worth a change of plan.
_DEAD_BAND: Final = 0.08

#: Noise stays within this many standard errors of the difference of medians.
_SIGMAS: Final = 5.0

#: Least standard deviation assumed: clocks and schedulers are never quieter.
_MIN_SPREAD: Final = 0.02

#: With this many values, the standard error is doubled; the factor is 1 + _FEW / n.
_FEW: Final = 5

#: The same for the spread that a step must exceed: the median deviation of few values understates it.
_FEW_BEFORE: Final = 10

#: Standard error of a median of n normal values / (standard deviation / sqrt(n)).
_OF_MEDIAN: Final = 1.2533

#: Standard deviation / median absolute deviation of a normal distribution.
_OF_MAD: Final = 1.4826


class Series:
    """A level with noise around it.

    Examples:
        >>> series = Series()
        >>> for value in [1.0, 1.1, 0.9, 1.0, 50.0, 1.0]:
        ...     series.add(value)
        >>> series.level
        1.0
    """

    def __init__(self) -> None:
        self._recent: deque[float] = deque(maxlen=RECENT)
        self._settled: deque[float] = deque(maxlen=_SETTLED)

    def __len__(self) -> int:
        return len(self._settled)

    @property
    def latest(self) -> tuple[float, ...]:
        """The latest values, oldest first."""
        return tuple(self._recent)

    @property
    def level(self) -> float:
        """The median since the last step; NaN without values."""
        return statistics.median(self._settled) if self._settled else math.nan

    @property
    def error(self) -> float:
        """Standard error of the level; infinite with fewer than `MIN_VALUES` values.

        Taken from the order statistics around the median, for any distribution: it is large if values on both
        sides of the median lie far apart, as when many outliers come close together.
        """
        num = len(self)
        if num < MIN_VALUES:
            return math.inf
        ordered = sorted(self._settled)
        middle, reach = (num - 1) / 2, math.sqrt(num) / 2
        error = (_at(ordered, middle + reach) - _at(ordered, middle - reach)) / 2
        # With few values the error itself is uncertain.
        return max(error, _OF_MEDIAN * _MIN_SPREAD / math.sqrt(num)) * (1 + _FEW / num)

    def add(self, value: float) -> None:
        self._recent.append(value)
        self._settled.append(value)
        if len(self._recent) == RECENT and len(self._settled) > RECENT:
            self._look_for_a_step()

    def _look_for_a_step(self) -> None:
        before = list(self._settled)[: -len(self._recent)]
        if len(before) < MIN_VALUES:
            before = list(self._settled)[:MIN_VALUES]
        then, now = statistics.median(before), statistics.median(self._recent)
        noise = max(_MIN_SPREAD, _OF_MAD * statistics.median(abs(value - then) for value in before))
        noise *= 1 + _FEW_BEFORE / len(before)
        # Both medians are uncertain; the older one the more, the fewer values it has.
        error = _OF_MEDIAN * noise * math.sqrt(1 / len(self._recent) + 1 / len(before))
        if abs(now - then) <= max(_DEAD_BAND, _SIGMAS * error):
            return
        after = _since_the_step(list(self._recent), then, now)
        self._settled = deque(after, maxlen=_SETTLED)
        self._recent = deque(after, maxlen=RECENT)


def _since_the_step(values: Sequence[float], then: float, now: float) -> Sequence[float]:
    """Return the latest values, from the moment on that ``now`` fits them better than ``then``.

    Values among them that fit ``then`` are kept: if they are many, outliers close together have looked like a
    step, and these values make the level as uncertain as it is.
    """
    gains = [abs(value - then) - abs(value - now) for value in reversed(values)]
    sums = list(itertools.accumulate(gains))
    return values[len(values) - 1 - sums.index(max(sums)) :]


def _at(ordered: Sequence[float], place: float) -> float:
    """Return the linear interpolation of ``ordered`` at a fractional index, clamped to its ends."""
    place = min(max(place, 0.0), len(ordered) - 1.0)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])
