"""Which workers are there, and which of them cannot reach each other: events in, changes out; pure."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

#: A pair that has lost each other that often within `_STRIKES_S` is not used together for a while.
_STRIKES: Final = 2
_STRIKES_S: Final = 60.0

#: For so long at first; doubled each time that it happens again.
_APART_S: Final = 15.0
_MAX_APART_S: Final = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """How closely workers are watched.

    Attributes:
        interval_s: Between two pings of a worker.
        ping_timeout_s: Of a ping.
        lost_after_s: A worker that answers nothing for so long is lost.
        max_back_off_s: Between two tries to reach a worker that is lost; it begins at ``interval_s`` and
            doubles.
        probe_every_s: Between two probes of a device that is not in use; 0 probes none.
        probe_s: How long one takes.
        call_timeout_s: Of the calls of a roll-out that should be answered at once, and of connections.
    """

    interval_s: float = 0.5
    ping_timeout_s: float = 1.0
    lost_after_s: float = 2.5
    max_back_off_s: float = 4.0
    probe_every_s: float = 3.0
    probe_s: float = 0.3
    call_timeout_s: float = 3.0


@dataclass(frozen=True, slots=True)
class Lost:
    """A worker is gone."""

    device: str
    reason: str


@dataclass(frozen=True, slots=True)
class Joined:
    """A worker is there, that was not, or that was another process."""

    device: str


Change = Lost | Joined


@dataclass(slots=True)
class _Member:
    is_up: bool
    heard_s: float
    instance: str = ""
    back_off_s: float = 0.0
    #: Not to be used before.
    unfit_until_s: float = 0.0


@dataclass(slots=True)
class _Pair:
    strikes: list[float] = field(default_factory=list)
    apart_until_s: float = 0.0
    apart_s: float = 0.0


class Members:
    """The workers of a session.

    Args:
        devices: Names; all are taken to be there at first.
    """

    def __init__(self, devices: Iterable[str], watch: Watch, now_s: float) -> None:
        self._watch = watch
        self._members = {name: _Member(True, now_s) for name in devices}
        self._pairs: dict[frozenset[str], _Pair] = {}

    def add(self, device: str, now_s: float) -> None:
        """Watch for another worker, which is not there yet."""
        self._members.setdefault(device, _Member(False, now_s))

    def heard(self, device: str, instance: str, now_s: float) -> list[Change]:
        """A worker has answered."""
        member = self._members[device]
        changes: list[Change] = []
        if member.is_up and member.instance not in ("", instance):
            changes.append(Lost(device, "its process was restarted"))
            member.is_up = False
        if not member.is_up:
            changes.append(Joined(device))
        member.is_up, member.heard_s, member.instance, member.back_off_s = True, now_s, instance, 0.0
        return changes

    def missed(self, device: str, reason: str, now_s: float) -> list[Change]:
        """A worker has not answered a ping, or refused the connection."""
        member = self._members[device]
        if not member.is_up:
            member.back_off_s = min(
                max(self._watch.interval_s, 2 * member.back_off_s), self._watch.max_back_off_s
            )
            return []
        if now_s - member.heard_s < self._watch.lost_after_s:
            return []
        return self.lost(device, f"no answer in {now_s - member.heard_s:.1f} s: {reason}")

    def lost(self, device: str, reason: str) -> list[Change]:
        """A worker is gone for certain."""
        member = self._members[device]
        if not member.is_up:
            return []
        member.is_up = False
        return [Lost(device, reason)]

    def unfit(self, device: str, now_s: float, seconds: float) -> None:
        """A worker is there and cannot do its part."""
        self._members[device].unfit_until_s = now_s + seconds

    def strike(self, a: str, b: str, now_s: float) -> bool:
        """Two workers that are both there have lost each other; say whether they are kept apart now.

        Once may be chance, and is tried again as it was.
        """
        pair = self._pairs.setdefault(frozenset((a, b)), _Pair())
        pair.strikes = [*(s for s in pair.strikes if s > now_s - _STRIKES_S), now_s]
        if len(pair.strikes) < _STRIKES:
            return False
        pair.apart_s = min(_MAX_APART_S, max(_APART_S, 2 * pair.apart_s))
        pair.apart_until_s = now_s + pair.apart_s
        pair.strikes.clear()
        return True

    def wait_s(self, device: str) -> float:
        """How long until the next ping; some jitter, so that many coordinators do not ask at once."""
        member = self._members[device]
        seconds = self._watch.interval_s if member.is_up else max(self._watch.interval_s, member.back_off_s)
        return seconds * random.uniform(0.8, 1.2)

    def is_up(self, device: str) -> bool:
        return self._members[device].is_up

    def usable(self, now_s: float) -> tuple[str, ...]:
        """Devices that a plan may use."""
        return tuple(
            name for name, member in self._members.items() if member.is_up and member.unfit_until_s <= now_s
        )

    def apart(self, now_s: float) -> tuple[tuple[str, str], ...]:
        """Pairs that no plan should let talk to each other."""
        return tuple(
            sorted((min(pair), max(pair)) for pair, item in self._pairs.items() if item.apart_until_s > now_s)
        )
