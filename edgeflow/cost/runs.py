"""Costs of operators that run together: measured runs, and the cheapest cover of other runs by them.

Back ends fuse: a convolution applies the activation after it, convolutions pass on the layout that suits
them, and sums join other kernels. So operators take less time together than alone, by an amount that cannot
be measured per operator. It is measured on *runs* of consecutive operators, from all of them down to pairs.
Other runs are covered by measured ones:

* operators together take no longer than in measured parts (the costs at the borders of parts vanish), and
* a part takes no longer than a run that contains it,

so the cheapest cover is an upper estimate; a measured run costs its measured time. The time of a run is
divided among its operators in proportion to their times alone, as *factors*.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from math import inf
from typing import NamedTuple

import msgspec

from edgeflow.errors import ConfigError


class Span(NamedTuple):
    """Operators ``[start, stop)`` of an order, and their seconds together."""

    start: int
    stop: int
    seconds: float


class Part(NamedTuple):
    """Operators ``[start, stop)`` covered by one span, and the factor on their times alone."""

    start: int
    stop: int
    factor: float


class MeasuredRuns(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """Runs of one graph's operators on one device.

    Attributes:
        operators: In the order in which they ran.
        alone_s: Seconds of each operator alone.
        spans: Measured runs of several operators.

    Examples:
        Two operators that are fused, of three that take a second each alone:

        >>> names = ("conv", "relu", "pool")
        >>> runs = MeasuredRuns(operators=names, alone_s=(1.0,) * 3, spans=(Span(0, 2, 1.2),))
        >>> runs.factors(names)
        {'conv': 0.6, 'relu': 0.6, 'pool': 1.0}
        >>> runs.factors(("relu", "pool"))
        {'relu': 1.0, 'pool': 1.0}
    """

    operators: tuple[str, ...]
    alone_s: tuple[float, ...]
    spans: tuple[Span, ...] = ()

    def __post_init__(self) -> None:
        count = len(self.operators)
        if len(self.alone_s) != count:
            raise ConfigError(f"{count} operators have {len(self.alone_s)} durations")
        for span in self.spans:
            if not 0 <= span.start < span.stop <= count:
                raise ConfigError(f"run [{span.start}, {span.stop}) is not one of {count} operators")
        for seconds in (*self.alone_s, *(span.seconds for span in self.spans)):
            if not 0 < seconds < inf:
                raise ConfigError(f"durations of runs must be positive and finite, got {seconds:g}")

    def factors(self, operators: Sequence[str]) -> Mapping[str, float]:
        """Return operator -> its time when these run together / its time alone.

        Unknown operators are left out. Results are cached.
        """
        key = tuple(operators)
        known = self._factors.get(key)
        if known is None:
            known = self._factors[key] = self._find_factors(key)
        return known

    def _find_factors(self, operators: Iterable[str]) -> dict[str, float]:
        at = sorted({self.positions[name] for name in operators if name in self.positions})
        gaps = [index for index, (a, b) in enumerate(pairwise(at), start=1) if b != a + 1]
        return {
            self.operators[position]: part.factor
            for start, stop in pairwise([0, *gaps, len(at)])
            if start < stop
            for part in self.cover(at[start], at[stop - 1] + 1)
            for position in range(part.start, part.stop)
        }

    def cover(self, start: int, stop: int) -> list[Part]:
        """Return the cheapest cover of operators ``[start, stop)``."""
        parts = []
        steps = self.steps(stop)
        while start < stop:
            parts.append(steps[start])
            start = steps[start].stop
        return parts

    def steps(self, stop: int) -> Sequence[Part]:
        """For each position before ``stop``, the first part of the cheapest cover from there to ``stop``."""
        known = self._steps.get(stop)
        if known is None:
            known = self._steps[stop] = self._find_steps(stop)
        return known

    def _find_steps(self, stop: int) -> list[Part]:
        before = self._alone_before
        least = [0.0] * (stop + 1)
        steps: list[Part] = []
        for start in reversed(range(stop)):
            measured = self._measured.get((start, stop))
            if measured is not None:
                least[start], end, seconds = measured, stop, measured
            else:
                least[start], end, seconds = min(
                    (
                        (span.seconds + least[min(span.stop, stop)], min(span.stop, stop), span.seconds)
                        for span in self._holding[start]
                    ),
                    key=lambda found: (found[0], -found[1]),
                )
            steps.append(Part(start, end, seconds / (before[end] - before[start])))
        return steps[::-1]

    @cached_property
    def least(self) -> Mapping[str, float]:
        """Operator -> its least factor over all spans."""
        before = self._alone_before
        found = [1.0] * len(self.operators)
        for span in self.spans:
            factor = span.seconds / (before[span.stop] - before[span.start])
            for position in range(span.start, span.stop):
                found[position] = min(found[position], factor)
        return dict(zip(self.operators, found, strict=True))

    @cached_property
    def positions(self) -> Mapping[str, int]:
        return {name: position for position, name in enumerate(self.operators)}

    @cached_property
    def _alone_before(self) -> Sequence[float]:
        sums = [0.0]
        for seconds in self.alone_s:
            sums.append(sums[-1] + seconds)
        return sums

    @cached_property
    def _measured(self) -> Mapping[tuple[int, int], float]:
        return {(span.start, span.stop): span.seconds for span in self.spans}

    @cached_property
    def _holding(self) -> Sequence[Sequence[Span]]:
        """For each position, the spans that contain it, without those that end sooner and take longer."""
        holding: list[list[Span]] = [
            [Span(position, position + 1, seconds)] for position, seconds in enumerate(self.alone_s)
        ]
        for span in self.spans:
            for position in range(span.start, span.stop):
                holding[position].append(span)
        return [_undominated(spans) for spans in holding]

    @cached_property
    def _factors(self) -> dict[tuple[str, ...], Mapping[str, float]]:
        return {}

    @cached_property
    def _steps(self) -> dict[int, Sequence[Part]]:
        return {}


def _undominated(spans: Iterable[Span]) -> list[Span]:
    kept: list[Span] = []
    for span in sorted(spans, key=lambda item: (-item.stop, item.seconds)):
        if not kept or span.seconds < kept[-1].seconds:
            kept.append(span)
    return kept
