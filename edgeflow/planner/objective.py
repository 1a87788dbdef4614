"""What a plan is to be best at, and how two plans compare under it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal, get_args

import msgspec
import numpy as np

from edgeflow.errors import ConfigError
from edgeflow.plan.plan import Candidate, Plan

Kind = Literal["latency", "throughput", "energy"]
KINDS: Final[tuple[str, ...]] = get_args(Kind)


class Objective(msgspec.Struct, frozen=True):
    """What is made small.

    Attributes:
        kind: ``latency``: the time of one request on an idle cluster. ``throughput``: the time between two
            answers when requests never cease. ``energy``: what one request adds to the devices' consumption.
        deadline_s: Latency to keep. A plan that misses it is worse than any that keeps it, whatever else.
    """

    kind: Kind = "latency"
    deadline_s: float | None = None

    @staticmethod
    def of(kind: str, deadline_s: float | None = None) -> Objective:
        """Return the objective called ``kind``.

        Raises:
            ConfigError: If there is none, or the deadline is not positive.
        """
        if kind not in KINDS:
            raise ConfigError(f"no objective {kind!r}; known: {', '.join(KINDS)}")
        if deadline_s is not None and not 0 < deadline_s < float("inf"):
            raise ConfigError(f"a deadline must be positive and finite, got {deadline_s:g} s")
        return Objective(kind, deadline_s)  # type: ignore[arg-type]

    def score(self, item: Plan | Candidate) -> tuple[float, float, float]:
        """Return what to compare by, least first: seconds past the deadline, the objective, a tie-break."""
        latency, period, energy = _figures(item)
        missed = 0.0 if self.deadline_s is None else max(0.0, latency - self.deadline_s)
        match self.kind:
            case "latency":
                return missed, latency, energy
            case "throughput":
                return missed, period, latency
            case "energy":
                return missed, energy, latency


def _figures(item: Plan | Candidate) -> tuple[float, float, float]:
    if isinstance(item, Plan):
        return item.predicted_latency_s, item.predicted_period_s, item.predicted_energy_j
    infinite = float("inf")
    return tuple(infinite if x is None else x for x in (item.latency_s, item.period_s, item.energy_j))  # type: ignore[return-value]


def mixed_period_s(busy_s: Sequence[Mapping[str, float]]) -> tuple[float, tuple[float, ...]]:
    """Return the least time between answers when requests are shared out between several ways.

    A linear programme: fractions of the requests that add up to one, so that the busiest resource is busy
    for as short a time a request as can be. Ignores that whole requests are dispatched.

    Args:
        busy_s: For each way, resource -> seconds that one request occupies it.

    Returns:
        Seconds a request, and the fraction of requests of each way.

    Examples:
        >>> period, fractions = mixed_period_s([{"fast": 1.0}, {"slow": 3.0}])
        >>> period, fractions
        (0.75, (0.75, 0.25))
    """
    from scipy.optimize import linprog  # takes a while to load, and most plans have one way

    if len(busy_s) == 1:
        return max(busy_s[0].values(), default=0.0), (1.0,)
    resources = sorted({name for busy in busy_s for name in busy})
    count = len(busy_s)
    if not resources:
        return 0.0, (1.0, *[0.0] * (count - 1))
    loads = np.array([[busy.get(name, 0.0) for busy in busy_s] + [-1.0] for name in resources])
    solved = linprog(
        c=[0.0] * count + [1.0],
        A_ub=loads,
        b_ub=np.zeros(len(resources)),
        A_eq=[[1.0] * count + [0.0]],
        b_eq=[1.0],
        bounds=[(0, None)] * (count + 1),
        method="highs",
    )
    assert solved.success, solved.message
    return float(solved.x[-1]), tuple(float(x) for x in solved.x[:-1])
