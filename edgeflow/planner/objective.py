"""What a plan is to be best at, and how two plans compare under it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf
from typing import Final

import msgspec
import numpy as np

from edgeflow.errors import ConfigError
from edgeflow.plan.plan import Plan
from edgeflow.plan.weighed import Candidate

#: Objective -> the figure to minimise, and the one that decides between equals (`edgeflow.plan.weighed`).
_FIGURES: Final[Mapping[str, tuple[str, str]]] = {
    "latency": ("latency_s", "energy_j"),
    "throughput": ("period_s", "latency_s"),
    "energy": ("energy_j", "latency_s"),
}
KINDS: Final[tuple[str, ...]] = tuple(_FIGURES)


class Objective(msgspec.Struct, frozen=True):
    """The figure to minimise.

    Attributes:
        kind: ``latency``: the time of one request on an idle cluster. ``throughput``: the time between two
            answers when requests never cease. ``energy``: what one request adds to the devices' consumption.
            Otherwise the name of a further figure (`Figures.further`), with latency between equals.
        deadline_s: Latency to keep. A plan that misses it is worse than any that keeps it, whatever else.
    """

    kind: str = "latency"
    deadline_s: float | None = None

    @staticmethod
    def of(kind: str, deadline_s: float | None = None) -> Objective:
        """Return the objective that users call ``kind``, one of `KINDS`.

        Raises:
            ConfigError: If there is none, or the deadline is not positive.
        """
        if kind not in KINDS:
            raise ConfigError(f"no objective {kind!r}; known: {', '.join(KINDS)}")
        if deadline_s is not None and not 0 < deadline_s < inf:
            raise ConfigError(f"a deadline must be positive and finite, got {deadline_s:g} s")
        return Objective(kind, deadline_s)

    @property
    def figures(self) -> tuple[str, str]:
        """Names of the figure to minimise, and of the one that decides between equals."""
        return _FIGURES.get(self.kind, (self.kind, "latency_s"))

    def score(self, item: Plan | Candidate) -> tuple[float, float, float]:
        """Return what to compare by, least first: seconds past the deadline, then `figures`.

        An unknown figure counts as infinite.
        """
        latency_s, first, second = (_or_inf(item.figures.get(name)) for name in ("latency_s", *self.figures))
        missed_s = 0.0 if self.deadline_s is None else max(0.0, latency_s - self.deadline_s)
        return missed_s, first, second


def _or_inf(value: float | None) -> float:
    return inf if value is None else value


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
