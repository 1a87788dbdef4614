"""Detect a dead connection that nobody has closed, because its link drops packets; a pure state machine.

The criterion is whether the other side's *system* acknowledges, not whether its process answers: the system
acknowledges also while the process is busy, stopped, or waits for the interpreter's lock. Progress of the
stream is no criterion either: a receiver whose buffer is full acknowledges without taking bytes. On a slow
link with a deep queue, acknowledgements keep coming while a long frame drains, one packet time apart; only
the first is delayed by the traffic of others in the queue.
"""

from __future__ import annotations

from typing import Final, NamedTuple

#: A link is dead after this time without any acknowledgement while one is due. Three retransmissions on a
#: local network fit in (0.2, 0.6 and 1.4 s after the first transmission).
SILENT_S: Final = 2.0

#: On slow links the limit is this many round trips, if that is longer.
_ROUND_TRIPS: Final = 3.0


class Heard(NamedTuple):
    """What the operating system knows about the other side of a connection.

    Attributes:
        is_due: Whether data or a probe has been sent that the other side has not acknowledged.
        ago_s: Time since its last acknowledgement.
        round_trip_s: Smoothed round-trip time, plus four times its deviation.
    """

    is_due: bool
    ago_s: float
    round_trip_s: float


class Silence:
    """Measures for how long an acknowledgement has been due on one connection."""

    def __init__(self) -> None:
        self._since_s: float | None = None

    def look(self, heard: Heard | None, now_s: float) -> float | None:
        """Return the duration of the silence if it exceeds the limit, else None.

        Args:
            heard: None if the system cannot tell; then no silence is too long.
        """
        if heard is None or not heard.is_due:
            self._since_s = None
            return None
        # Count from the first look at which something was due: it may have been sent long after the last
        # acknowledgement. Any later acknowledgement restarts the count.
        self._since_s = max(now_s if self._since_s is None else self._since_s, now_s - heard.ago_s)
        silent_s = now_s - self._since_s
        return silent_s if silent_s >= max(SILENT_S, _ROUND_TRIPS * heard.round_trip_s) else None
