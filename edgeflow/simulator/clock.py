"""The virtual clock: SimPy's, with events that say the moment at which they happen and who goes first."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappush
from typing import Any, Final

import simpy

#: At one moment ranks go on first; transfers follow, by request and tag (`transfer_order`).
FIRST: Final = 1


def transfer_order(request: int, tag: int) -> int:
    """Where a transfer stands among those that reach something at the same moment."""
    return ((request + 1) << 32) + tag


class Happening:
    """Something that will happen: ``calls`` of one function, given this, and what it is about.

    Far lighter than a SimPy process: there is one for every hop of every frame.
    """

    __slots__ = ("callbacks", "order", "what")
    _ok = True

    def __init__(self, calls: tuple[Callable[[Any], None]], order: int, what: Any) -> None:
        self.callbacks: Any = calls
        self.order = order
        self.what = what


class Clock(simpy.Environment):
    """A SimPy environment that takes times instead of delays.

    Adding the time to a delay that was the time subtracted would break ties that the prediction has, and with
    them the order of transfers.
    """

    def at(self, time_s: float, happening: Happening) -> None:
        """Let something happen at ``time_s``, which is not before now."""
        queue: list[Any] = self._queue
        heappush(queue, (time_s, happening.order, next(self._eid), happening))

    def call(self, time_s: float, function: Callable[[Any], None], what: Any = None) -> None:
        """Let something happen that is no work: call ``function`` with ``what``."""
        self.at(time_s, _Call((lambda happening: function(happening.what),), FIRST, what))

    def finish(self) -> float:
        """Let the work that is under way end, and nothing else happen; return when it has ended."""
        self._queue = [item for item in self._queue if not isinstance(item[3], _Call)]
        heapify(self._queue)
        self.run()
        return self.now


class _Call(Happening):
    __slots__ = ()
