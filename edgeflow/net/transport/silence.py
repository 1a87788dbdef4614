"""When a connection is dead though nobody has closed it: a link that drops packets says nothing; pure.

What is looked at is whether the other side's *system* acknowledges, not whether its process answers: a
process may be busy, stopped, or wait for the interpreter's lock, and its system acknowledges all the same.
Nor is it whether bytes advance: a receiver that has no room for more acknowledges that. On a slow link with a
deep queue acknowledgements keep coming while a long frame drains, each a packet's time after the one before;
only the first waits for what others have put into the queue.
"""

from __future__ import annotations

from typing import Final, NamedTuple

#: So long without any acknowledgement, while one is due, is a dead link. Four retransmissions of a near
#: neighbour fit in (0.2, 0.6, 1.4 s after the first try).
SILENT_S: Final = 2.0

#: On links that are slow by themselves, that many round trips, if that is more.
_ROUND_TRIPS: Final = 3.0


class Heard(NamedTuple):
    """What the system knows of the other side.

    Attributes:
        is_due: Whether something is on its way that the other side is to acknowledge: data or a probe.
        ago_s: Since anything was last heard of it.
        round_trip_s: As measured, with its usual deviation on top.
    """

    is_due: bool
    ago_s: float
    round_trip_s: float


class Silence:
    """How long an acknowledgement has been due; one for each connection."""

    def __init__(self) -> None:
        self._since_s: float | None = None

    def look(self, heard: Heard | None, now_s: float) -> float | None:
        """Return for how long there has been silence if that is too long, else None.

        Args:
            heard: None if the system cannot say it; then it is never too long.
        """
        if heard is None or not heard.is_due:
            self._since_s = None
            return None
        # What is due now may have been sent since the last look, and long after the last word.
        self._since_s = max(now_s if self._since_s is None else self._since_s, now_s - heard.ago_s)
        silent_s = now_s - self._since_s
        return silent_s if silent_s >= max(SILENT_S, _ROUND_TRIPS * heard.round_trip_s) else None
