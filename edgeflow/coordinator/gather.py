"""Which waiting requests are answered together, and when: ids and times; no socket, clock or thread.

    waiting ──take──> in a batch ──end──> answered, or failed
       └─────────────────┴──────────────> late, abandoned

A full batch begins at once; one that is not full when its oldest request has waited for long enough. Neither
begins while as many are under way as may be: requests gather meanwhile, so the busier the workers, the fuller
the batches.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from edgeflow.errors import ConfigError, OverloadedError
from edgeflow.machine import Machine, Word, recorded


class Together(Word, frozen=True):
    """Requests to begin as one, oldest first."""

    batch: int
    requests: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Waiting:
    since_s: float
    deadline_s: float


class Gatherer(Machine):
    """The requests of one `Batcher`.

    Args:
        size: Requests of a full batch.
        max_wait_s: How long a request waits for others at most, while there is room for another batch.
        max_in_flight: Batches that may be under way.
        max_waiting: Requests that may wait for a batch; one more is refused.

    Raises:
        ConfigError: If one of these makes no sense.
    """

    def __init__(self, *, size: int, max_wait_s: float, max_in_flight: int, max_waiting: int) -> None:
        for what, value in (("size", size), ("max_in_flight", max_in_flight), ("max_waiting", max_waiting)):
            if value < 1:
                raise ConfigError(f"{what} of a batcher must be at least 1, got {value}")
        if max_wait_s < 0:
            raise ConfigError(f"max_wait_s of a batcher must not be negative, got {max_wait_s:g}")
        self._size = size
        self._max_wait_s = max_wait_s
        self._max_in_flight = max_in_flight
        self._max_waiting = max_waiting
        self._num_batches = 0
        self._waiting: dict[int, _Waiting] = {}
        #: Batch -> request -> its deadline, of requests that are still wanted.
        self._under_way: dict[int, dict[int, float]] = {}

    @recorded
    def add(self, request: int, now_s: float, deadline_s: float | None = None) -> None:
        """Take a request.

        Raises:
            OverloadedError: If too many wait already.
        """
        if len(self._waiting) >= self._max_waiting:
            raise OverloadedError(
                f"{len(self._waiting)} requests wait already, at most {self._max_waiting} may; "
                f"{len(self._under_way)} batches are under way"
            )
        self._waiting[request] = _Waiting(now_s, math.inf if deadline_s is None else deadline_s)

    @recorded
    def take(self, now_s: float) -> Together | None:
        """Return a batch to begin now, or None; to be called until it returns None."""
        if not self._waiting or now_s < self._begin_s():
            return None
        chosen = tuple(self._waiting)[: self._size]
        self._num_batches += 1
        self._under_way[self._num_batches] = {
            request: self._waiting.pop(request).deadline_s for request in chosen
        }
        return Together(self._num_batches, chosen)

    @recorded
    def end(self, batch: int) -> tuple[int, ...]:
        """End a batch; return its requests that are still wanted."""
        return tuple(self._under_way.pop(batch, ()))

    @recorded
    def drop(self, request: int) -> int | None:
        """Drop a request that is not wanted any more; return its batch if that is not wanted either."""
        if self._waiting.pop(request, None) is not None:
            return None
        for batch, requests in self._under_way.items():
            if requests.pop(request, None) is not None:
                return None if requests else batch
        return None

    def late(self, now_s: float) -> tuple[int, ...]:
        """Return the requests whose time is up; each is to be dropped."""
        return tuple(request for request, deadline_s in self._deadlines() if deadline_s <= now_s)

    def validate(self) -> None:
        assert len(self._waiting) <= self._max_waiting
        assert len(self._under_way) <= self._max_in_flight
        together = [request for requests in self._under_way.values() for request in requests]
        assert len(set(together)) == len(together), "a request is in two batches"
        assert not self._waiting.keys() & set(together), "a request waits and is in a batch"

    def is_waiting(self, request: int) -> bool:
        """Whether a request is in no batch yet."""
        return request in self._waiting

    def is_wanted(self, batch: int) -> bool:
        """Whether a request of a running batch is still wanted."""
        return bool(self._under_way.get(batch))

    @property
    def next_s(self) -> float:
        """When there is something to do if no request comes and no batch ends before; infinite if never."""
        begin_s = self._begin_s() if self._waiting else math.inf
        return min([begin_s, *(deadline_s for _, deadline_s in self._deadlines())])

    def _begin_s(self) -> float:
        """When the next batch begins; some request waits."""
        if len(self._under_way) >= self._max_in_flight:
            return math.inf
        if len(self._waiting) >= self._size:
            return -math.inf
        return next(iter(self._waiting.values())).since_s + self._max_wait_s

    def _deadlines(self) -> Iterator[tuple[int, float]]:
        for request, waiting in self._waiting.items():
            yield request, waiting.deadline_s
        for requests in self._under_way.values():
            yield from requests.items()
