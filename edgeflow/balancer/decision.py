"""When to re-plan, and what was decided: plain data."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from edgeflow.errors import ConfigError
from edgeflow.units import format_seconds


class Thresholds(msgspec.Struct, frozen=True, kw_only=True):
    """When to re-plan.

    Attributes:
        gain: Least gain, as a share of the present plan's figure under the costs that are believed now.
        cool_down_s: After a switch, at least so long until the next one; doubled with every further switch
            of late, so that nothing makes it swing to and fro for long.
        forget_s: A device that nothing was heard of for so long is taken to be at its usual speed again.
        horizon_s: A switch has to have earned what moving costs after so long.
        doubt: Standard errors of what is believed that a gain must stand.
        prepare_s: What moving costs beside the weights: workers compile, connections are made.
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
    """What was weighed at one moment, and what came of it.

    Attributes:
        time_s: When, on the clock of whoever asked.
        verdict: ``switch``, ``stay``, or ``impossible`` where no plan could be made.
        reason: In words.
        before_s: The figure of the plan that runs, under what is believed now: seconds of a request, or
            seconds between two answers, or joules, by the plan's objective.
        after_s: The figure of the plan that was weighed against it.
        before, after: What these plans are: strategy and devices.
        slowness: Device -> times of what the cost model says that it is believed to take.
        moved_bytes: Weights that have to travel.
        move_s: What moving is expected to cost.
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
        """The gain as a share of the present figure."""
        return 1 - self.after_s / self.before_s if self.before_s > 0 else 0.0

    def explain(self) -> str:
        """Return one line for people, with the numbers before and after."""
        slow = ", ".join(f"{name} {ratio:.2f}x" for name, ratio in sorted(self.slowness.items()))
        numbers = f"{format_seconds(self.before_s)} ({self.before}) -> {format_seconds(self.after_s)}"
        return f"{self.verdict}: {self.reason}; {numbers} ({self.after}); taking: {slow or 'nothing seen'}"
