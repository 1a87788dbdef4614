"""One duration over time: noisy, with outliers, now and then with a step.

Medians throughout: less than half of the latest values may be anything. What counts as a step is decided
against the noise that the series itself has shown, so that noise alone is none.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections import deque
from collections.abc import Sequence
from typing import Final

#: Latest values that a step is looked for in; it is seen when more than half of them lie beyond it.
RECENT: Final = 13

#: Values that the present level is taken from; slow drift within them is followed as a step.
_SETTLED: Final = 101

#: Fewest values that say anything.
MIN_VALUES: Final = 5

#: A smaller step (of a natural logarithm) changes no decision worth its noise.
_DEAD_BAND: Final = 0.08

#: Standard errors of the latest values' median that noise stays within.
_SIGMAS: Final = 5.0

#: Least spread that is believed: clocks and schedulers are never quieter.
_MIN_SPREAD: Final = 0.02

#: Values that double the standard error, were there no more.
_FEW: Final = 5

#: The standard error of a median, in standard deviations by the root of the number of values.
_OF_MEDIAN: Final = 1.2533

#: Standard deviations by the median absolute deviation, of a normal distribution.
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
        """Standard error of the level; infinite while there are too few values to tell.

        By how far the values go on around the middle one, whatever the shape of their distribution: half of
        them here and half of them there, as where outliers come close together, leave the middle unknown.
        """
        num = len(self)
        if num < MIN_VALUES:
            return math.inf
        ordered = sorted(self._settled)
        middle, reach = (num - 1) / 2, math.sqrt(num) / 2
        error = (_at(ordered, middle + reach) - _at(ordered, middle - reach)) / 2
        # Of few values it is not well known either.
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
        # Both medians are uncertain: the older one more, the fewer values it has.
        error = _OF_MEDIAN * noise * math.sqrt(1 / len(self._recent) + 1 / len(before))
        if abs(now - then) <= max(_DEAD_BAND, _SIGMAS * error):
            return
        after = _since_the_step(list(self._recent), then, now)
        self._settled = deque(after, maxlen=_SETTLED)
        self._recent = deque(after, maxlen=RECENT)


def _since_the_step(values: Sequence[float], then: float, now: float) -> Sequence[float]:
    """The values from the moment on that ``now`` explains them better than ``then``.

    Those among them that look like ``then`` are kept. Where they are many, outliers that came close together
    have looked like a step, and the level is to be as uncertain as that makes it.
    """
    gains = [abs(value - then) - abs(value - now) for value in reversed(values)]
    sums = list(itertools.accumulate(gains))
    return values[len(values) - 1 - sums.index(max(sums)) :]


def _at(ordered: Sequence[float], place: float) -> float:
    """The value at a place between two of them; the first or the last beyond these."""
    place = min(max(place, 0.0), len(ordered) - 1.0)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])
