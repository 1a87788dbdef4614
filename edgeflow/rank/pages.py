"""Memory for activations, in pages that are used again and again.

A fresh array costs more than its bytes: the system hands its pages over one fault at a time and zeroes each.
A pool keeps the pages that programs have freed. An array takes a run of neighbouring pages, and gives it back
when nothing refers to it any more, views of other libraries included; who frees a buffer just drops it.
"""

from __future__ import annotations

import math
import mmap
import threading
from bisect import insort
from collections import defaultdict, deque
from typing import Any, Final

import numpy as np

from edgeflow.graph.ir import Array

PAGE_BYTES: Final = 1 << 16

#: Smaller arrays come from the C library, which does not ask the system for each of them.
SMALL_BYTES: Final = 2 * PAGE_BYTES

#: Pages of addresses that are asked of the system at once; memory stands behind those that were used.
_ARENA_PAGES: Final = 4096
_NO_RESERVE: Final = getattr(mmap, "MAP_NORESERVE", 0)


class PagePool:
    """Hands out uninitialised arrays; may be used from several threads.

    Arrays of less than `SMALL_BYTES` come from numpy, which is faster for them; they are not counted.

    Attributes:
        used_bytes: In pages that are handed out.
        peak_bytes: The most that this was.
        held_bytes: In pages that were ever handed out and not given back to the system.
    """

    def __init__(self) -> None:
        self.used_bytes = 0
        self.peak_bytes = 0
        self._lock = threading.Lock()
        self._arenas: list[_Arena] = []
        #: Runs that are free, by their number of pages: programs ask for the same sizes again and again. The
        #: latest goes first, since caches may still hold it.
        self._free: defaultdict[int, list[_Run]] = defaultdict(list)
        #: Runs whose arrays are gone. Appending takes no lock, because the last reference to an array may be
        #: dropped anywhere, also by the garbage collector in the middle of `empty`.
        self._returned: deque[_Run] = deque()

    @property
    def held_bytes(self) -> int:
        return sum(arena.num_touched for arena in self._arenas) * PAGE_BYTES

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """Return an array whose elements can be anything, as `numpy.empty` does."""
        num_bytes = math.prod(shape) * dtype.itemsize
        if num_bytes < SMALL_BYTES:
            return np.empty(shape, dtype)
        lease = _Lease(self._take(-(-num_bytes // PAGE_BYTES)), num_bytes, self._returned)
        return np.asarray(lease).view(dtype).reshape(shape)

    def trim(self) -> None:
        """Give memory that nobody uses back to the system."""
        with self._lock:
            self._settle()
            self._merge()
            self._arenas = [arena for arena in self._arenas if not arena.is_unused]

    def _take(self, count: int) -> _Run:
        with self._lock:
            self._settle()
            free = self._free[count]
            run = free.pop() if free else self._cut(count)
            self.used_bytes += count * PAGE_BYTES
            self.peak_bytes = max(self.peak_bytes, self.used_bytes)
            return run

    def _settle(self) -> None:
        while self._returned:
            run = self._returned.popleft()
            self._free[run.count].append(run)
            self.used_bytes -= run.count * PAGE_BYTES

    def _cut(self, count: int) -> _Run:
        """Make a run of a size that none is free of."""
        self._merge()
        for arena in self._arenas:
            run = arena.take(count)
            if run is not None:
                return run
        arena = _Arena(max(count, _ARENA_PAGES))
        self._arenas.append(arena)
        run = arena.take(count)
        assert run is not None
        return run

    def _merge(self) -> None:
        for runs in self._free.values():
            for run in runs:
                run.arena.put(run)
        self._free.clear()


class _Run:
    """Neighbouring pages of an arena."""

    __slots__ = ("arena", "count", "start")

    def __init__(self, arena: _Arena, start: int, count: int) -> None:
        self.arena = arena
        self.start = start
        self.count = count


class _Arena:
    """Pages at neighbouring addresses; the first gap that is large enough is used, so few are touched."""

    def __init__(self, num_pages: int) -> None:
        self.num_pages = num_pages
        self.num_touched = 0
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NO_RESERVE
        self._memory = np.frombuffer(mmap.mmap(-1, num_pages * PAGE_BYTES, flags=flags), np.uint8)
        self._address: int = self._memory.__array_interface__["data"][0]
        #: Gaps as (first page, number of pages), in order, never next to each other.
        self._gaps = [(0, num_pages)]

    @property
    def is_unused(self) -> bool:
        return self._gaps == [(0, self.num_pages)]

    def address(self, page: int) -> int:
        return self._address + page * PAGE_BYTES

    def take(self, count: int) -> _Run | None:
        for index, (start, size) in enumerate(self._gaps):
            if size >= count:
                self._gaps[index : index + 1] = [(start + count, size - count)] if size > count else []
                self.num_touched = max(self.num_touched, start + count)
                return _Run(self, start, count)
        return None

    def put(self, run: _Run) -> None:
        insort(self._gaps, (run.start, run.count))
        merged: list[tuple[int, int]] = []
        for start, count in self._gaps:
            if merged and sum(merged[-1]) == start:
                merged[-1] = (merged[-1][0], merged[-1][1] + count)
            else:
                merged.append((start, count))
        self._gaps = merged


class _Lease:
    """The owner of an array's memory: when the last array that refers to it goes, the pages are free."""

    __slots__ = ("__array_interface__", "_returned", "_run")

    def __init__(self, run: _Run, num_bytes: int, returned: deque[_Run]) -> None:
        self._run = run
        self._returned = returned
        self.__array_interface__ = {
            "version": 3,
            "shape": (num_bytes,),
            "typestr": "|u1",
            "data": (run.arena.address(run.start), False),
        }

    def __del__(self) -> None:
        self._returned.append(self._run)
