"""Which of several ways a request goes: the one that is expected to be done with it first.

Pure: whoever uses it says what began and how long it took; there is no clock here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

#: Weight of the latest duration in a way's estimate.
_LATEST: Final = 0.2


@dataclass(slots=True)
class _Way:
    seconds: float
    under_way: int = 0
    is_closed: bool = False


class Dispatcher:
    """Counts what is under way, and learns how long each way takes.

    A way with n requests under way is expected to be done with one more after n + 1 times what it takes
    between two answers. That interval is learnt from durations divided by how many shared the way, an
    exponentially weighted mean that starts from what was predicted.

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
        """Return the way that the next request goes, and count it as under way there; of equals the first."""
        index = self.choose()
        self._ways[index].under_way += 1
        return index

    def choose(self) -> int:
        """Return the way that the next request is to go; of equals the first.

        Raises:
            ValueError: If every way is closed.
        """
        return min(
            (index for index, way in enumerate(self._ways) if not way.is_closed),
            key=lambda way: (self._completion_s(way), way),
        )

    def close(self, way: int) -> None:
        """Send nothing that way any more; what is under way there may still end."""
        self._ways[way].is_closed = True

    def end(self, way: int, seconds: float | None) -> None:
        """Note that a request has left a way.

        Args:
            seconds: How long it took there; None if it was not answered, which teaches nothing.
        """
        state = self._ways[way]
        if seconds is not None:
            state.seconds += _LATEST * (seconds / state.under_way - state.seconds)
        state.under_way -= 1

    @property
    def expected_s(self) -> tuple[float, ...]:
        """What one more answer of each way is expected to take, when nothing else is under way there."""
        return tuple(way.seconds for way in self._ways)

    def _completion_s(self, way: int) -> float:
        state = self._ways[way]
        return state.seconds * (state.under_way + 1)
