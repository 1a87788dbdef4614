"""The members of a registry: events in, instructions out; no socket, clock or thread.

A worker joins under the name of its device, renews its membership before its time to live ends, and leaves,
or counts as gone when it does not renew. A worker that joins under the name of a member replaces it: it is
the same device, started again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from edgeflow.errors import WorkerOverloadedError
from edgeflow.machine import Machine, Word, recorded

#: Members of one registry at most.
MAX_MEMBERS: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A worker that has joined.

    Attributes:
        name: Of its device.
        address: ``HOST:PORT`` where it is reached.
    """

    name: str
    address: str
    num_threads: int = 0
    memory_limit_bytes: int = 0
    version: str = ""


class Joined(Word, frozen=True):
    member_id: str
    member: Member
    now_s: float


class Renewed(Word, frozen=True):
    member_id: str
    now_s: float


class Left(Word, frozen=True):
    member_id: str


class Tick(Word, frozen=True):
    """Time has passed."""

    now_s: float


RegistryEvent = Joined | Renewed | Left | Tick


class TellJoined(Word, frozen=True):
    member: Member


class TellLeft(Word, frozen=True):
    member: Member
    reason: str


RegistryInstruction = TellJoined | TellLeft


@dataclass(slots=True)
class _Entry:
    member: Member
    seen_s: float


class RegistryState(Machine):
    """The members of one registry.

    Args:
        ttl_s: Time after its last renewal until a member counts as gone.

    Examples:
        >>> state = RegistryState(ttl_s=10)
        >>> pi = Member(name="pi4", address="pi4:7070")
        >>> state.handle(Joined("a", pi, 0.0)) == [TellJoined(pi)]
        True
        >>> state.handle(Renewed("a", 8.0)), state.handle(Tick(17.0))
        ([], [])
        >>> [instruction.reason for instruction in state.handle(Tick(18.5))]
        ['not heard of for 10.5 s']
    """

    def __init__(self, *, ttl_s: float, max_members: int = MAX_MEMBERS) -> None:
        self._ttl_s = ttl_s
        self._max_members = max_members
        self._entries: dict[str, _Entry] = {}

    @property
    def members(self) -> tuple[Member, ...]:
        """The members, sorted by name."""
        return tuple(sorted((entry.member for entry in self._entries.values()), key=lambda m: m.name))

    def is_known(self, member_id: str) -> bool:
        return member_id in self._entries

    @recorded
    def handle(self, event: RegistryEvent) -> list[RegistryInstruction]:
        """Take an event; return what to tell the listeners.

        Raises:
            WorkerOverloadedError: If there are `max_members` members already.
        """
        match event:
            case Joined(member_id, member, now_s):
                return self._join(member_id, member, now_s)
            case Renewed(member_id, now_s):
                entry = self._entries.get(member_id)
                if entry is not None:
                    entry.seen_s = now_s
                return []
            case Left(member_id):
                return self._remove(member_id, "it said so")
            case Tick(now_s):
                late = [
                    (member_id, now_s - entry.seen_s)
                    for member_id, entry in self._entries.items()
                    if now_s - entry.seen_s > self._ttl_s
                ]
                return [
                    instruction
                    for member_id, silent_s in late
                    for instruction in self._remove(member_id, f"not heard of for {silent_s:.1f} s")
                ]

    def validate(self) -> None:
        members = [entry.member for entry in self._entries.values()]
        assert len(members) <= self._max_members
        assert len({member.name for member in members}) == len(members), "two members have one name"
        assert len({member.address for member in members}) == len(members), "two members have one address"

    def _join(self, member_id: str, member: Member, now_s: float) -> list[RegistryInstruction]:
        replaced = [
            other
            for other, entry in self._entries.items()
            if entry.member.name == member.name or entry.member.address == member.address
        ]
        if len(self._entries) - len(replaced) >= self._max_members:
            raise WorkerOverloadedError(
                f"{len(self._entries)} workers have joined, at most {self._max_members}"
            )
        gone = [item for other in replaced for item in self._remove(other, "another one took its place")]
        self._entries[member_id] = _Entry(member, now_s)
        return [*gone, TellJoined(member)]

    def _remove(self, member_id: str, reason: str) -> list[RegistryInstruction]:
        entry = self._entries.pop(member_id, None)
        return [] if entry is None else [TellLeft(entry.member, reason)]
