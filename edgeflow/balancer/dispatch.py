"""Choose one of several ways for a request: the one expected to complete it first.

Pure: the caller reports starts and durations; there is no clock here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

#: Weight of the latest duration in the exponentially weighted mean.
_LATEST: Final = 0.2


@dataclass(slots=True)
class _Way:
    seconds: float
    under_way: int = 0
    is_closed: bool = False


class Dispatcher:
    """Counts requests in flight on each way, and learns how long each way takes.

    A way with n requests in flight is expected to complete one more after n + 1 of its intervals between
    answers. The interval is an exponentially weighted mean of duration / number of requests in flight, which
    starts from the prediction.

    Args:
        expected_s: Predicted seconds of each way.

    Raises:
        ValueError: If there are no ways, or a prediction is not positive.

    Examples:
        >>> dispatcher = Dispatcher([1.0, 3.0])
        >>> [dispatcher.begin() for _ in range(4)]
        [0, 0, 0, 1]
    """

    def __init__(self, expected_s: Sequence[float]) -> None:
        if not expected_s or not all(0 < seconds < float("inf") for seconds in expected_s):
            raise ValueError(f"expected seconds must be positive and finite, got {list(expected_s)}")
        self._ways = [_Way(seconds) for seconds in expected_s]

    def begin(self) -> int:
        """Return the way for the next request, and count the request as in flight there."""
        index = self.choose()
        self._ways[index].under_way += 1
        return index

    def choose(self) -> int:
        """Return the way for the next request; the first one if several are equal.

        Raises:
            ValueError: If every way is closed.
        """
        return min(
            (index for index, way in enumerate(self._ways) if not way.is_closed),
            key=lambda way: (self._completion_s(way), way),
        )

    def close(self, way: int) -> None:
        """Choose this way no more; requests in flight there may still end."""
        self._ways[way].is_closed = True

    def end(self, way: int, seconds: float | None) -> None:
        """Record that a request has left a way.

        Args:
            seconds: How long it took there; None if it was not answered, which leaves the estimate as it is.
        """
        state = self._ways[way]
        if seconds is not None:
            state.seconds += _LATEST * (seconds / state.under_way - state.seconds)
        state.under_way -= 1

    @property
    def expected_s(self) -> tuple[float, ...]:
        """Expected seconds of one request on each way when nothing else is in flight there."""
        return tuple(way.seconds for way in self._ways)

    def _completion_s(self, way: int) -> float:
        state = self._ways[way]
        return state.seconds * (state.under_way + 1)
