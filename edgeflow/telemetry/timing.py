"""Measure how long requests take: medians with their range, and rivals in turn."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Self, TypeVar

import msgspec

from edgeflow.units import format_seconds

T = TypeVar("T")


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """How long requests took, in seconds."""

    median_s: float
    min_s: float
    max_s: float
    num_requests: int

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Self:
        return cls(
            median_s=statistics.median(seconds),
            min_s=min(seconds),
            max_s=max(seconds),
            num_requests=len(seconds),
        )

    def __str__(self) -> str:
        return (
            f"{format_seconds(self.median_s)} (median of {self.num_requests}; "
            f"{format_seconds(self.min_s)} to {format_seconds(self.max_s)})"
        )


def in_turn(
    rivals: Mapping[str, Callable[[], T]],
    *,
    rounds: int,
    warmup: int = 1,
    on_round: Callable[[int, int], None] = lambda done, total: None,
) -> Mapping[str, list[T]]:
    """Call each rival once per round, so that other load on the machine affects all of them alike.

    Args:
        rivals: Name -> one request.
        rounds: Number of counted rounds.
        warmup: Number of rounds before these, which are not counted.
        on_round: Called with the number of finished rounds and the number of all.

    Returns:
        Name -> the rival's results in the counted rounds, in order.
    """
    found: dict[str, list[T]] = {name: [] for name in rivals}
    for index in range(warmup + rounds):
        for name, request in rivals.items():
            answer = request()
            if index >= warmup:
                found[name].append(answer)
        on_round(index + 1, warmup + rounds)
    return found


def time_in_turn(
    rivals: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    warmup: int = 1,
    clock: Callable[[], float] = time.perf_counter,
    on_round: Callable[[int, int], None] = lambda done, total: None,
) -> Mapping[str, Timing]:
    """Call rivals `in_turn` and return how long each took, measured by ``clock``, in seconds."""
    timed = {name: partial(_seconds, request, clock) for name, request in rivals.items()}
    found = in_turn(timed, rounds=rounds, warmup=warmup, on_round=on_round)
    return {name: Timing.of(seconds) for name, seconds in found.items()}


def _seconds(request: Callable[[], object], clock: Callable[[], float]) -> float:
    start = clock()
    request()
    return clock() - start
