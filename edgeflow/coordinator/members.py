"""Which workers are up, and which of them cannot reach each other: events in, changes out; pure.

A worker that answers pings may still be useless: its data port cannot be reached, or the frames that it sends
are lost. Then plans fail, and each failure names a link: two workers, or a worker and the client. A link that
fails again and again is not used for a while. A worker that several others lose, or that the client loses, is
the common cause of these failures: it is set aside for a while. Links and workers are tried again afterwards,
and left alone for twice as long if they fail again.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from edgeflow.machine import Machine, Word, recorded

#: Two workers that lose each other so many times within `_STRIKES_S` are kept apart for a while.
_STRIKES: Final = 2
_STRIKES_S: Final = 60.0

#: How long they are kept apart at first, and at most; doubled each time.
_APART_S: Final = 15.0
_MAX_APART_S: Final = 600.0

#: A worker that several others lose within this time is the common cause: long enough for a link to be tried
#: again, and too short for faults of several links to coincide.
_COMMON_S: Final = 30.0

#: A ping ends so much after the time at which its worker counts as lost.
_LATE_S: Final = 0.02

#: After so long without a failure, earlier failures no longer count.
_FORGIVEN_S: Final = 300.0

#: Connections lost so soon after a worker came up belonged to its former process or route.
_FRESH_S: Final = 2.0

#: The client's end of a worker's link; no device has this name.
CLIENT_END: Final = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """How closely workers are watched.

    Attributes:
        interval_s: Time between two pings of a worker.
        ping_timeout_s: Timeout of a ping of a worker that is lost or suspected.
        lost_after_s: Time without any answer after which a worker counts as lost.
        max_back_off_s: Longest time between two tries to reach a lost worker; it begins at ``interval_s`` and
            doubles.
        probe_every_s: Time between two probes of a device that is not in use; 0: no probes.
        probe_s: Duration of a probe.
        call_timeout_s: Timeout of connections, and of calls of a roll-out that should be answered at once.
    """

    interval_s: float = 0.5
    ping_timeout_s: float = 1.0
    lost_after_s: float = 2.5
    max_back_off_s: float = 4.0
    probe_every_s: float = 3.0
    probe_s: float = 0.3
    call_timeout_s: float = 3.0


class Lost(Word, frozen=True):
    """A worker is gone."""

    device: str
    reason: str


class Joined(Word, frozen=True):
    """A worker has come up, or come back as another process."""

    device: str


Change = Lost | Joined


class Apart(Word, frozen=True):
    """Two workers are not used together for a while."""

    a: str
    b: str


class SetAside(Word, frozen=True):
    """A worker is not used for a while, though it answers."""

    device: str


@dataclass(slots=True)
class _Rest:
    """A time for which a link or a worker is left alone."""

    until_s: float = 0.0
    seconds: float = 0.0
    #: Whether its end has not been reported yet.
    is_news: bool = False

    def begin(self, now_s: float) -> None:
        """Begin, unless it has begun."""
        if now_s < self.until_s:
            return
        before_s = self.seconds if self.is_doubted(now_s) else 0.0
        self.seconds = min(_MAX_APART_S, max(_APART_S, 2 * before_s))
        self.until_s = now_s + self.seconds
        self.is_news = True

    def is_doubted(self, now_s: float) -> bool:
        """Whether its last rest was recent."""
        return self.seconds > 0 and now_s < self.until_s + _FORGIVEN_S

    def has_just_ended(self, now_s: float) -> bool:
        """Return whether it has ended, once."""
        if not self.is_news or self.until_s > now_s:
            return False
        self.is_news = False
        return True


@dataclass(slots=True)
class _Member:
    is_up: bool
    heard_s: float
    instance: str = ""
    #: When it last came up.
    came_s: float = -math.inf
    back_off_s: float = 0.0
    #: Not to be used before this time.
    unfit_until_s: float = 0.0
    aside: _Rest = field(default_factory=_Rest)


@dataclass(slots=True)
class _Link:
    #: Times at which it was lost while both ends were up.
    strikes: list[float] = field(default_factory=list)
    apart: _Rest = field(default_factory=_Rest)


class Members(Machine):
    """The workers of a session.

    Args:
        devices: Names; all count as up at first.
    """

    def __init__(self, devices: Iterable[str], watch: Watch, now_s: float) -> None:
        self._watch = watch
        self._members = {name: _Member(True, now_s) for name in devices}
        self._links: dict[frozenset[str], _Link] = {}

    @recorded
    def add(self, device: str, now_s: float) -> None:
        """Watch for another worker, which is not there yet."""
        self._members.setdefault(device, _Member(False, now_s))

    @recorded
    def heard(self, device: str, instance: str, now_s: float) -> list[Change]:
        """A worker has answered."""
        member = self._members[device]
        changes: list[Change] = []
        if member.is_up and member.instance not in ("", instance):
            changes.append(Lost(device, "its process was restarted"))
            member.is_up = False
            member.aside = _Rest()
            self._forget_links(device)
        if not member.is_up:
            changes.append(Joined(device))
            member.came_s = now_s
        member.is_up, member.heard_s, member.instance, member.back_off_s = True, now_s, instance, 0.0
        return changes

    @recorded
    def missed(self, device: str, reason: str, now_s: float, *, is_carrying: bool = False) -> list[Change]:
        """A worker has not answered a ping, or refused the connection.

        Args:
            is_carrying: Frames are on their way to or from it, and arrive: a slow link is full of them, and
                the ping waits behind.
        """
        member = self._members[device]
        if member.is_up and is_carrying:
            member.heard_s = now_s
            return []
        if not member.is_up:
            member.back_off_s = min(
                max(self._watch.interval_s, 2 * member.back_off_s), self._watch.max_back_off_s
            )
            return []
        if now_s - member.heard_s < self._watch.lost_after_s:
            return []
        return self.lost(device, f"no answer in {now_s - member.heard_s:.1f} s: {reason}")

    @recorded
    def lost(self, device: str, reason: str) -> list[Change]:
        """A worker is gone for certain."""
        member = self._members[device]
        if not member.is_up:
            return []
        member.is_up = False
        return [Lost(device, reason)]

    @recorded
    def unfit(self, device: str, now_s: float, seconds: float) -> None:
        """A worker is up, but cannot take its part of a plan."""
        self._members[device].unfit_until_s = now_s + seconds

    @recorded
    def strike(self, a: str, b: str, now_s: float, *, is_certain: bool = False) -> Apart | SetAside | None:
        """Two ends that are both up have lost each other; return what to avoid from now on.

        A single loss may be chance: nothing is avoided then.

        Args:
            a: A device.
            b: Another one, or `CLIENT_END`.
            is_certain: The loss is not chance, so two workers are kept apart at once. A worker that the
                client has lost is set aside at the second loss all the same, since no other may be left.
        """
        devices = [name for name in (a, b) if name != CLIENT_END]
        if not is_certain and any(now_s - self._members[name].came_s < _FRESH_S for name in devices):
            return None
        pair = frozenset((a, b))
        link = self._links.setdefault(pair, _Link())
        link.strikes = [*(s for s in link.strikes if s > now_s - _STRIKES_S), now_s]
        culprit = self._culprit(a, b, now_s)
        if culprit is not None:
            self._members[culprit].aside.begin(now_s)
            self._forget_links(culprit)
            return SetAside(culprit)
        if CLIENT_END in pair or not (is_certain or len(link.strikes) >= _STRIKES):
            return None
        link.apart.begin(now_s)
        return Apart(min(pair), max(pair))

    def validate(self) -> None:
        for pair, link in self._links.items():
            assert pair <= {*self._members, CLIENT_END}, f"a link of {set(pair)}, of which one is unknown"
            assert link.strikes == sorted(link.strikes)
        for name, member in self._members.items():
            assert 0 <= member.back_off_s <= self._watch.max_back_off_s, f"{name}: {member.back_off_s} s"

    def _culprit(self, a: str, b: str, now_s: float) -> str | None:
        """The one end of a lost link that other failures, too, have in common; None if neither or both."""
        lost = [
            pair
            for pair, link in self._links.items()
            for strike_s in link.strikes
            if strike_s > now_s - _COMMON_S
        ]

        def is_suspect(device: str, other: str) -> bool:
            mine = [pair for pair in lost if device in pair]
            is_enough = len(mine) >= _STRIKES and (other == CLIENT_END or len(set(mine)) >= _STRIKES)
            return is_enough or self._members[device].aside.is_doubted(now_s)

        suspects = [
            device for device, other in ((a, b), (b, a)) if device != CLIENT_END and is_suspect(device, other)
        ]
        return suspects[0] if len(suspects) == 1 else None

    def _forget_links(self, device: str) -> None:
        """Forget the failures of a device's links: the device itself is to blame, or nobody."""
        self._links = {pair: link for pair, link in self._links.items() if device not in pair}

    def wait_s(self, device: str) -> float:
        """Return the time until the next ping, with jitter so that many coordinators do not ask at once."""
        member = self._members[device]
        seconds = self._watch.interval_s if member.is_up else max(self._watch.interval_s, member.back_off_s)
        return seconds * random.uniform(0.8, 1.2)

    def ping_timeout_s(self, device: str, now_s: float) -> float:
        """Return the timeout of a ping that begins now.

        The answer of a worker that is up may be late, behind other data on a slow link. So one ping runs
        until the worker counts as lost, rather than several that each end too soon.
        """
        member = self._members[device]
        left_s = member.heard_s + self._watch.lost_after_s - now_s + _LATE_S if member.is_up else 0.0
        return max(self._watch.ping_timeout_s, left_s)

    def is_up(self, device: str) -> bool:
        return self._members[device].is_up

    def usable(self, now_s: float) -> tuple[str, ...]:
        """Return the devices that a plan may use; those set aside only if there are no others."""
        fit = [
            (name, member)
            for name, member in self._members.items()
            if member.is_up and member.unfit_until_s <= now_s
        ]
        trusted = tuple(name for name, member in fit if member.aside.until_s <= now_s)
        return trusted or tuple(name for name, _ in fit)

    def apart(self, now_s: float) -> tuple[tuple[str, str], ...]:
        """Return the pairs that must not exchange frames."""
        return tuple(
            sorted((min(pair), max(pair)) for pair, link in self._links.items() if link.apart.until_s > now_s)
        )

    @recorded
    def rested(self, now_s: float) -> tuple[str, ...]:
        """Return the devices that are up and whose rest, or a link's, has ended since the last call."""
        found = {name for name, member in self._members.items() if member.aside.has_just_ended(now_s)}
        for pair, link in self._links.items():
            if link.apart.has_just_ended(now_s):
                found |= pair
        return tuple(sorted(name for name in found if self._members[name].is_up))
