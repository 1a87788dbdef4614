"""The linear programme of CoEdge, solved by HiGHS; see `edgeflow.planner.strategies.coedge`."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from edgeflow.planner.estimates.arrays import Floats
from edgeflow.planner.search.coedge_part import SplitPart
from edgeflow.planner.search.coedge_terms import Terms
from edgeflow.planner.task import Task

#: Weight of seconds beside joules, so that among splits of equal energy the faster one is taken.
_TIE_BREAK = 1e-6


class Solution(msgspec.Struct, frozen=True, kw_only=True):
    """A row split.

    Attributes:
        devices: In the order of their strips.
        shares: Shares of the rows, before rounding; they add up to one.
        rows: Rows of the tensor with the most rows, whole numbers.
        rest: The device that runs what is not split.
        latency_s, energy_j: As the programme estimates them.
        misses_s: By how much the deadline is missed; 0 if it is kept, or there is none.
        score: Sort key among solutions with the same objective and deadline, best first.
    """

    devices: tuple[int, ...]
    shares: tuple[float, ...]
    rows: tuple[int, ...]
    rest: int
    latency_s: float
    energy_j: float
    misses_s: float = 0.0
    score: tuple[float, ...] = ()


class Programme:
    """The linear programmes of one graph, for any subset of some devices."""

    def __init__(self, task: Task, end: int, devices: tuple[int, ...]) -> None:
        self.devices = devices
        self._task = task
        self._part = SplitPart(task, end, devices)
        self.num_rows = self._part.num_rows

    def holds(self, rank: int) -> bool:
        """Return whether a device's memory holds the weights and one row."""
        return self._part.holds(rank)

    def solve(
        self,
        devices: tuple[int, ...],
        *,
        energy: bool,
        deadline_s: float | None,
        least_share: float = 0.0,
    ) -> Solution | None:
        """Return the best split over exactly these devices.

        With ``energy``: the least energy that keeps the deadline, or, if none keeps it, the least latency.
        Without: the least latency.

        Args:
            least_share: The least share of each device.

        Returns:
            None if the devices' memory does not hold all rows, or not the least share.
        """
        from scipy.optimize import linprog  # takes a while to load, and other strategies need none

        terms = Terms(self._part, devices, rest=self._rest_device(devices, energy=energy))
        count, num_layers = len(devices), len(terms.fixed_s)
        per_layer = [
            np.hstack(
                [np.diag(terms.slope_s[layer]) + terms.shared_s[layer], -np.eye(num_layers)[[layer] * count]]
            )
            for layer in range(num_layers)
        ]
        upper = np.vstack(per_layer)
        bound = -terms.fixed_s.ravel()
        times = np.array([0.0] * count + [1.0] * num_layers)
        joules = np.concatenate([terms.slope_j, np.zeros(num_layers)])
        limits = [
            (least_share, self._part.largest_share(rank, is_rest=rank == terms.rest)) for rank in devices
        ]
        if any(largest < least for least, largest in limits):
            return None
        whole = np.array([[1.0] * count + [0.0] * num_layers])

        def solved(objective: Floats, until_s: float | None) -> Floats | None:
            rows, most = upper, bound
            if until_s is not None:
                rows, most = np.vstack([upper, times]), np.append(bound, until_s - terms.rest_s)
            found = linprog(
                # HiGHS has absolute tolerances, and models differ by orders of magnitude.
                c=objective / max(float(np.abs(objective).max()), 1e-300),
                A_ub=rows / terms.unit_s,
                b_ub=most / terms.unit_s,
                A_eq=whole,
                b_eq=[1.0],
                bounds=[*limits, *[(0.0, None)] * num_layers],
                method="highs",
            )
            return np.asarray(found.x, dtype=float) if found.success else None

        x = None
        if energy:
            x = solved(
                joules + _TIE_BREAK * times * max(float(joules.max()), 1e-9) / terms.unit_s, deadline_s
            )
        if x is None:
            x = solved(times, None)
        if x is None:
            return None
        return self._solution(terms, x[:count], energy=energy, deadline_s=deadline_s)

    def given(self, devices: tuple[int, ...], shares: Sequence[float]) -> Solution:
        """Return a split with given shares; the fastest of the devices runs the rest."""
        fastest = next(rank for rank in self._task.fastest if rank in devices)
        terms = Terms(self._part, devices, rest=fastest)
        return self._solution(terms, np.array(shares), energy=False, deadline_s=None)

    def _solution(self, terms: Terms, shares: Floats, *, energy: bool, deadline_s: float | None) -> Solution:
        latency_s = terms.latency_s(shares)
        energy_j = float(terms.slope_j @ shares) + terms.fixed_j
        misses_s = 0.0 if deadline_s is None else max(0.0, latency_s - deadline_s)
        # Ignore a miss within HiGHS's tolerance.
        misses_s = misses_s if misses_s > 1e-6 * latency_s else 0.0
        objective = (energy_j, latency_s) if energy else (latency_s, energy_j)
        return Solution(
            devices=terms.devices,
            shares=tuple(float(share) for share in shares),
            rows=largest_remainders(shares, self.num_rows),
            rest=terms.rest,
            latency_s=latency_s,
            energy_j=energy_j,
            misses_s=misses_s,
            score=(misses_s, *objective),
        )

    def _rest_device(self, devices: tuple[int, ...], *, energy: bool) -> int:
        def cost(rank: int) -> tuple[float, float, int]:
            seconds, joules = self._part.rest_cost[rank]
            return (joules, seconds, rank) if energy else (seconds, joules, rank)

        return min(devices, key=cost)


def largest_remainders(shares: Sequence[float] | Floats, total: int) -> tuple[int, ...]:
    """Return whole numbers that add up to ``total``, in proportion to shares that add up to one.

    What rounding down leaves goes to the largest remainders, to the first among equals.

    Examples:
        >>> largest_remainders([0.5, 0.3, 0.2], 7)
        (4, 2, 1)
    """
    exact = [max(0.0, float(share)) * total for share in shares]
    rows = [int(value + 1e-9) for value in exact]
    order = sorted(range(len(rows)), key=lambda index: (rows[index] - exact[index], index))
    for index in order[: max(0, total - sum(rows))]:
        rows[index] += 1
    return tuple(rows)
