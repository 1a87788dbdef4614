"""Measuring how long requests take: medians with their range, and rivals in turn."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import msgspec

from edgeflow.units import format_seconds


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """How long requests took, in seconds."""

    median_s: float
    min_s: float
    max_s: float
    num_requests: int

    @staticmethod
    def of(seconds: Sequence[float]) -> Timing:
        return Timing(
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


def time_in_turn(
    rivals: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    warmup: int = 1,
    clock: Callable[[], float] = time.perf_counter,
    on_round: Callable[[int, int], None] = lambda done, total: None,
) -> Mapping[str, Timing]:
    """Time each rival once a round, so that whatever else the machine does meets all of them alike.

    Args:
        rivals: Name -> one request.
        rounds: That are counted.
        warmup: Rounds before, that are not.
        clock: In seconds.
        on_round: Told how many rounds are done, of how many.
    """
    seconds: dict[str, list[float]] = {name: [] for name in rivals}
    for index in range(warmup + rounds):
        for name, request in rivals.items():
            start = clock()
            request()
            if index >= warmup:
                seconds[name].append(clock() - start)
        on_round(index + 1, warmup + rounds)
    return {name: Timing.of(values) for name, values in seconds.items()}
