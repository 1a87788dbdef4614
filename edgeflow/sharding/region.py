"""Boxes of tensors: one half-open interval per dim, with intersection, hull and difference.

What two devices exchange is an intersection of boxes; what a device still lacks is a difference of boxes. A
region of a 0-dim tensor has no intervals and one element.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import msgspec


class Interval(NamedTuple):
    """Indices ``start, start+1, ..., stop-1`` of one dim."""

    start: int
    stop: int

    @property
    def length(self) -> int:
        start, stop = self
        return stop - start if stop > start else 0

    def intersect(self, other: Interval) -> Interval:
        start = max(self.start, other.start)
        return Interval(start, max(start, min(self.stop, other.stop)))

    def hull(self, other: Interval) -> Interval:
        return Interval(min(self.start, other.start), max(self.stop, other.stop))

    def contains(self, other: Interval) -> bool:
        return self.start <= other.start and other.stop <= self.stop

    def shift(self, offset: int) -> Interval:
        return Interval(self.start + offset, self.stop + offset)


class Region(msgspec.Struct, frozen=True, gc=False, array_like=True, cache_hash=True):
    """A box: one interval per dim.

    Examples:
        >>> rows = Region.full((1, 3, 8, 8)).replace(2, Interval(0, 5))
        >>> rows.shape
        (1, 3, 5, 8)
        >>> str(rows)
        '[0:1, 0:3, 0:5, 0:8]'
    """

    intervals: tuple[Interval, ...]

    @staticmethod
    def full(shape: Sequence[int]) -> Region:
        """Return the region that covers a whole tensor of this shape."""
        return _full(tuple(shape))

    @staticmethod
    def of(bounds: Iterable[tuple[int, int]]) -> Region:
        """Return the region with these ``(start, stop)`` bounds, one pair per dim."""
        return Region(tuple(Interval(start, stop) for start, stop in bounds))

    def __getitem__(self, dim: int) -> Interval:
        return self.intervals[dim]

    def __len__(self) -> int:
        return len(self.intervals)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(interval.length for interval in self.intervals)

    @property
    def num_elements(self) -> int:
        count = 1
        for start, stop in self.intervals:
            count *= stop - start if stop > start else 0
        return count

    @property
    def is_empty(self) -> bool:
        for start, stop in self.intervals:  # noqa: SIM110  # twice as fast as any(), and called very often
            if stop <= start:
                return True
        return False

    def is_full(self, shape: Sequence[int]) -> bool:
        """Whether the region covers a whole tensor of this shape."""
        return all(
            start == 0 and stop == size for (start, stop), size in zip(self.intervals, shape, strict=True)
        )

    def replace(self, dim: int, interval: Interval) -> Region:
        """Return the region with the interval of one dim replaced."""
        dims = list(self.intervals)
        dims[dim] = interval
        return Region(tuple(dims))

    def intersect(self, other: Region) -> Region:
        # Planning calls this some hundred thousand times: `Interval.intersect` is inlined, and existing
        # objects are returned where they equal the result.
        parts = []
        is_self = True
        for mine, theirs in zip(self.intervals, other.intervals, strict=True):
            if mine is theirs:
                parts.append(mine)
                continue
            start, stop = mine
            low, high = theirs
            if low <= start and stop <= high:
                parts.append(mine)
                continue
            is_self = False
            if start <= low and high <= stop:
                parts.append(theirs)
                continue
            start = start if start > low else low
            stop = stop if stop < high else high
            parts.append(Interval(start, stop if stop > start else start))
        return self if is_self else Region(tuple(parts))

    def overlap(self, other: Region) -> int:
        """Return the number of elements in both regions."""
        count = 1
        for mine, theirs in zip(self.intervals, other.intervals, strict=True):
            start, stop = mine
            if mine is not theirs:  # uncut dims often share one Interval object
                low, high = theirs
                start = start if start > low else low
                stop = stop if stop < high else high
            length = stop - start
            if length <= 0:
                return 0
            count *= length
        return count

    def hull(self, other: Region) -> Region:
        """Return the smallest box that contains both; an empty region adds nothing."""
        if other.is_empty:
            return self
        if self.is_empty:
            return other
        return Region(tuple(a.hull(b) for a, b in zip(self.intervals, other.intervals, strict=True)))

    def contains(self, other: Region) -> bool:
        """Whether ``other`` lies inside; an empty region lies inside every region."""
        for mine, theirs in zip(self.intervals, other.intervals, strict=True):
            if mine is not theirs and (mine[0] > theirs[0] or mine[1] < theirs[1]):
                return other.is_empty
        return True

    def subtract(self, other: Region) -> tuple[Region, ...]:
        """Return disjoint boxes that cover ``self`` minus ``other``; at most two boxes per dim."""
        return _subtract(self, other)

    def slices(self, within: Region) -> tuple[slice, ...]:
        """Return Python slices that index ``self`` in a buffer that holds the region ``within``."""
        return tuple(
            slice(a.start - b.start, a.stop - b.start)
            for a, b in zip(self.intervals, within.intervals, strict=True)
        )

    def __str__(self) -> str:
        return "[" + ", ".join(f"{start}:{stop}" for start, stop in self.intervals) + "]"


@lru_cache(maxsize=4096)
def _full(shape: tuple[int, ...]) -> Region:
    return Region(tuple([Interval(0, size) for size in shape]))


@lru_cache(maxsize=16384)  # repeated layers, and the candidate plans of a model, subtract the same regions
def _subtract(region: Region, other: Region) -> tuple[Region, ...]:
    overlap = region.intersect(other)
    if overlap is region or region.is_empty:
        return ()
    if overlap.is_empty:
        return (region,)
    rest = []
    middle = region
    for dim, (mine, cut) in enumerate(zip(region.intervals, overlap.intervals, strict=True)):
        if mine.start < cut.start:
            rest.append(middle.replace(dim, Interval(mine.start, cut.start)))
        if cut.stop < mine.stop:
            rest.append(middle.replace(dim, Interval(cut.stop, mine.stop)))
        middle = middle.replace(dim, cut)
    return tuple(rest)


def without(boxes: Iterable[Region], region: Region) -> tuple[Region, ...]:
    """Return disjoint boxes that cover disjoint ``boxes`` minus ``region``."""
    return tuple(piece for box in boxes for piece in box.subtract(region))


def subtract_all(region: Region, others: Iterable[Region]) -> tuple[Region, ...]:
    """Return disjoint boxes that cover ``region`` minus all ``others``."""
    rest: tuple[Region, ...] = () if region.is_empty else (region,)
    for other in others:
        rest = without(rest, other)
    return rest


def split_interval(size: int, shares: Sequence[float], *, multiple: int = 1) -> tuple[Interval, ...]:
    """Cut ``[0, size)`` into consecutive intervals in proportion to ``shares``.

    Boundaries are rounded to multiples of ``multiple`` (the last one is ``size``), so an interval may be
    empty if its part of ``size`` is less than ``multiple``. A share of zero always gets an empty interval.

    Raises:
        ValueError: If a share is negative or all shares are zero.

    Examples:
        >>> split_interval(7, [1.0, 0.5, 0.25])
        (Interval(start=0, stop=4), Interval(start=4, stop=6), Interval(start=6, stop=7))
    """
    return _split_interval(size, tuple(shares), multiple)


@lru_cache(maxsize=4096)
def _split_interval(size: int, shares: tuple[float, ...], multiple: int) -> tuple[Interval, ...]:
    total = float(sum(shares))
    if total <= 0 or min(shares) < 0:
        raise ValueError(f"shares must be non-negative with a positive sum, got {list(shares)}")
    bounds = [0]
    seen = 0.0
    for share in shares:
        seen += share
        bound = min(size, multiple * int(seen / total * size / multiple + 0.5))
        bounds.append(max(bounds[-1], bound))
    last = max(index for index, share in enumerate(shares) if share > 0)
    bounds[last + 1 :] = [size] * (len(shares) - last)
    return tuple(Interval(a, b) for a, b in pairwise(bounds))
