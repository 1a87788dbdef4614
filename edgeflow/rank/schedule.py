"""Which request of an epoch runs next on a rank: pure bookkeeping.

One thread runs the requests of a rank. A request runs until it waits for a frame that has not arrived; then
another one runs. Of those that can go on, the one with the lowest id goes first: requests are answered in
the order in which they were asked, and yet a rank that waits for one of them works on the next.

The schedule knows frames by their sender and their tag; the caller holds the payloads.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import msgspec

#: Ids of ended requests that are remembered one by one; older ids are known to have ended.
_MAX_REMEMBERED: Final = 4096


class FrameKey(msgspec.Struct, frozen=True, order=True, gc=False):
    """A transfer of a program: its sender and its tag."""

    peer: int
    tag: int


class Arrival(enum.Enum):
    """What to do with a frame that has arrived."""

    KEEP = "keep"
    #: Its request has ended: normal after a cancellation.
    LATE = "late"
    #: It has arrived before.
    DUPLICATE = "duplicate"
    #: The program receives no such frame.
    UNEXPECTED = "unexpected"
    #: Too much is kept for requests that have not begun.
    OVERLOADED = "overloaded"


class Begin(NamedTuple):
    """Start this request."""

    request_id: int


class Continue(NamedTuple):
    """Give this request the frame that it waits for."""

    request_id: int
    frame: FrameKey


@dataclass(slots=True)
class _Request:
    has_begun: bool = False
    #: Frames of which it waits for one; none while it runs.
    waits_for: frozenset[FrameKey] = frozenset()
    #: Frames that arrived and were not given yet, with their sizes in bytes.
    held: dict[FrameKey, int] = field(default_factory=dict)
    seen: set[FrameKey] = field(default_factory=set)


class Schedule:
    """The requests of one program on one rank.

    Args:
        receives: Every frame that the program receives.
        max_active: Requests that may have begun and not ended; the rest wait (but see `next`).
        early_limit_bytes: What may be kept for requests that have not begun.
    """

    def __init__(
        self, receives: frozenset[FrameKey], *, max_active: int = 1, early_limit_bytes: int = 1 << 60
    ) -> None:
        self._receives = receives
        self._max_active = max_active
        self._early_limit_bytes = early_limit_bytes
        self._early_bytes = 0
        self._requests: dict[int, _Request] = {}
        self._ended: dict[int, None] = {}
        self._all_ended_below = 0

    @property
    def pending(self) -> tuple[int, ...]:
        """Requests that have not ended, lowest id first."""
        return tuple(sorted(self._requests))

    @property
    def early_bytes(self) -> int:
        """What is kept for requests that have not begun."""
        return self._early_bytes

    @property
    def num_active(self) -> int:
        return sum(request.has_begun for request in self._requests.values())

    @property
    def num_pending(self) -> int:
        return len(self._requests)

    @property
    def can_go_on(self) -> bool:
        """Whether `next` would return a request."""
        lowest = min(self._requests, default=None)
        num_active = self.num_active
        return any(
            not request.waits_for.isdisjoint(request.held)
            or (not request.has_begun and (num_active < self._max_active or request_id == lowest))
            for request_id, request in self._requests.items()
        )

    def is_pending(self, request_id: int) -> bool:
        return request_id in self._requests

    def has_ended(self, request_id: int) -> bool:
        return request_id < self._all_ended_below or request_id in self._ended

    def validate(self) -> None:
        """Raise `AssertionError` if the bookkeeping contradicts itself."""
        early = sum(
            sum(request.held.values()) for request in self._requests.values() if not request.has_begun
        )
        assert self._early_bytes == early, f"{self._early_bytes} early bytes counted, {early} held"
        for request_id, request in self._requests.items():
            assert request_id not in self._ended, f"request {request_id} is pending and has ended"
            assert request.held.keys() <= request.seen <= self._receives
            assert request.has_begun or not request.waits_for

    def __deepcopy__(self, memo: dict[int, object]) -> Schedule:
        """Copy what changes; thousands of ended ids are copied at once rather than one by one."""
        copied = Schedule(
            self._receives, max_active=self._max_active, early_limit_bytes=self._early_limit_bytes
        )
        copied._early_bytes = self._early_bytes
        copied._requests = {
            request_id: _Request(request.has_begun, request.waits_for, dict(request.held), set(request.seen))
            for request_id, request in self._requests.items()
        }
        copied._ended = dict(self._ended)
        copied._all_ended_below = self._all_ended_below
        return copied

    def add(self, request_id: int) -> None:
        """Make a request known that no frame has announced: the client's way."""
        self._requests.setdefault(request_id, _Request())

    def arrive(self, request_id: int, frame: FrameKey, num_bytes: int) -> Arrival:
        """Take note of a frame; the first of a request makes it known."""
        request = self._requests.get(request_id)
        if request is None and self.has_ended(request_id):
            return Arrival.LATE
        if frame not in self._receives:
            return Arrival.UNEXPECTED
        if request is not None and frame in request.seen:
            return Arrival.DUPLICATE
        if request is None or not request.has_begun:
            # A request that is alone is about to begin, however large its frames are.
            is_alone = not self._requests or (request is not None and len(self._requests) == 1)
            if self._early_bytes + num_bytes > self._early_limit_bytes and not is_alone:
                return Arrival.OVERLOADED
            self._early_bytes += num_bytes
        request = self._requests.setdefault(request_id, _Request())
        request.seen.add(frame)
        request.held[frame] = num_bytes
        return Arrival.KEEP

    def waits_for(self, request_id: int) -> frozenset[FrameKey]:
        """The frames of which a request waits for one; none if it does not wait."""
        request = self._requests.get(request_id)
        return frozenset() if request is None else request.waits_for

    def wait(self, request_id: int, frames: tuple[FrameKey, ...]) -> None:
        """A request that runs needs one of these frames to go on: the first to arrive."""
        self._requests[request_id].waits_for = frozenset(frames)

    def end(self, request_id: int) -> None:
        """A request has been answered, has failed or was cancelled; its frames are of no use any more.

        An id that is not known yet may be ended too: frames that come later are then late.
        """
        request = self._requests.pop(request_id, None)
        if request is not None and not request.has_begun:
            self._early_bytes -= sum(request.held.values())
        self._ended[request_id] = None
        while len(self._ended) > _MAX_REMEMBERED:
            oldest = next(iter(self._ended))
            del self._ended[oldest]
            self._all_ended_below = max(self._all_ended_below, oldest + 1)

    def next(self) -> Begin | Continue | None:
        """Return what to run now, and take it as done; None if every request waits for something.

        The lowest request may always begin, also when `max_active` have begun: another rank may wait for it,
        and the ones that have begun may wait for that rank. So the lowest request of all is never held up
        anywhere, and ranks cannot block each other.
        """
        num_active = self.num_active
        lowest = min(self._requests, default=None)
        for request_id, request in sorted(self._requests.items()):
            if not request.waits_for.isdisjoint(request.held):
                frame = next(key for key in request.held if key in request.waits_for)
                request.waits_for = frozenset()
                del request.held[frame]
                return Continue(request_id, frame)
            if not request.has_begun and (num_active < self._max_active or request_id == lowest):
                request.has_begun = True
                self._early_bytes -= sum(request.held.values())
                return Begin(request_id)
        return None
