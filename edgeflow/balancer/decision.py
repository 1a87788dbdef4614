"""Thresholds for re-planning, and decisions: plain data."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from edgeflow.errors import ConfigError
from edgeflow.units import format_seconds


class Thresholds(msgspec.Struct, frozen=True, kw_only=True):
    """When to re-plan.

    Attributes:
        gain: Least gain, as a share of the running plan's objective value under the current estimates.
        cool_down_s: Least time between two switches; doubled by every further recent switch, so that plans
            do not oscillate for long.
        forget_s: A device without observations for this long is assumed to be at its usual speed again.
        horizon_s: A switch must save the cost of moving within this time.
        doubt: Number of standard errors of the estimates that a gain must exceed.
        prepare_s: Cost of a move besides the weights: workers compile, connections are made.
    """

    gain: float = 0.1
    cool_down_s: float = 5.0
    forget_s: float = 30.0
    horizon_s: float = 60.0
    doubt: float = 3.0
    prepare_s: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.gain < 1:
            raise ConfigError(f"the gain that a switch needs must be in [0, 1), got {self.gain:g}")
        for name in ("cool_down_s", "forget_s", "horizon_s", "doubt", "prepare_s"):
            value = getattr(self, name)
            if not 0 <= value < float("inf"):
                raise ConfigError(f"{name} must be in [0, infinity), got {value:g}")


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """A comparison of the running plan with a candidate, and its outcome.

    Attributes:
        time_s: When, on the caller's clock.
        verdict: ``switch``, ``stay``, or ``impossible`` if no plan could be made.
        reason: In words.
        before_s: Objective value of the running plan under the current estimates: latency or period in
            seconds, or energy in joules, by the plan's objective.
        after_s: Objective value of the candidate.
        before, after: Labels of these plans: strategy and devices.
        slowness: Device -> estimated kernel time / predicted kernel time.
        moved_bytes: Weights to send.
        move_s: Expected duration of the move.
    """

    time_s: float
    verdict: str
    reason: str
    before_s: float
    after_s: float
    before: str = ""
    after: str = ""
    slowness: Mapping[str, float] = {}
    moved_bytes: int = 0
    move_s: float = 0.0

    @property
    def gain(self) -> float:
        """The gain as a share of ``before_s``."""
        return 1 - self.after_s / self.before_s if self.before_s > 0 else 0.0

    def explain(self) -> str:
        """Return one readable line, with the numbers before and after."""
        slow = ", ".join(f"{name} {ratio:.2f}x" for name, ratio in sorted(self.slowness.items()))
        numbers = f"{format_seconds(self.before_s)} ({self.before}) -> {format_seconds(self.after_s)}"
        return f"{self.verdict}: {self.reason}; {numbers} ({self.after}); slowness: {slow or 'unknown'}"
