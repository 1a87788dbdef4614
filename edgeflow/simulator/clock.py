"""The virtual clock: SimPy's, with absolute times and an explicit order of simultaneous events."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappush
from typing import Any, Final

import simpy

#: Order of ranks among simultaneous events; transfers follow, by request and tag (`transfer_order`).
FIRST: Final = 1


def transfer_order(request: int, tag: int) -> int:
    """Return the order of a transfer among simultaneous events."""
    return ((request + 1) << 32) + tag


class Happening:
    """An event: calls the function in ``calls`` with itself; ``what`` is its payload.

    Far lighter than a SimPy process: every hop of every frame is one.
    """

    __slots__ = ("callbacks", "order", "what")
    _ok = True

    def __init__(self, calls: tuple[Callable[[Any], None]], order: int, what: Any) -> None:
        self.callbacks: Any = calls
        self.order = order
        self.what = what


class Clock(simpy.Environment):
    """A SimPy environment with absolute times instead of delays.

    Converting a time to a delay and back rounds it, which would break ties that the prediction has, and so
    change the order of transfers.
    """

    def at(self, time_s: float, happening: Happening) -> None:
        """Schedule an event at ``time_s``, which must not be in the past."""
        queue: list[Any] = self._queue
        heappush(queue, (time_s, happening.order, next(self._eid), happening))

    def call(self, time_s: float, function: Callable[[Any], None], what: Any = None) -> None:
        """Call ``function(what)`` at ``time_s``; `finish` drops such calls."""
        self.at(time_s, _Call((lambda happening: function(happening.what),), FIRST, what))

    def finish(self) -> float:
        """Drop scheduled calls, let the work in progress end, and return the time at which it has ended."""
        self._queue = [item for item in self._queue if not isinstance(item[3], _Call)]
        heapify(self._queue)
        self.run()
        return self.now


class _Call(Happening):
    __slots__ = ()
