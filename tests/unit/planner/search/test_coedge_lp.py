"""CoEdge's linear programme, by hand and against every division into whole rows."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations_with_replacement, pairwise

import msgspec
import pytest

from edgeflow.planner.analysis import analysis_of
from edgeflow.planner.search.coedge_lp import largest_remainders
from tests.unit.planner.coedge_programmes import (
    SLOW,
    UNEQUAL,
    cluster_of,
    one_layer,
    programme_of,
    solved,
    task_flops,
)


def test_the_least_latency_without_halos_is_in_proportion_to_speed() -> None:
    found = solved(programme_of(one_layer(), cluster_of(scale=SLOW)), energy=False)

    assert found.shares == pytest.approx((4 / 7, 2 / 7, 1 / 7), rel=1e-3)
    assert found.rows == (7, 3, 2)


def test_the_least_energy_without_a_deadline_is_the_most_efficient_device() -> None:
    """1 W at 0.25 GFLOP/s is 4 nJ a FLOP; the others take 10 and 6."""
    found = solved(programme_of(one_layer(), cluster_of(scale=SLOW)), energy=True)

    assert found.shares == pytest.approx((0.0, 0.0, 1.0), abs=1e-6)


def test_a_deadline_moves_what_the_efficient_device_cannot_do_in_time_to_the_next_one() -> None:
    programme = programme_of(one_layer(), cluster_of(scale=SLOW))
    whole_s = solved(programme, energy=False).latency_s * 7 / 4  # on d0 alone

    found = solved(programme, energy=True, deadline_s=2 * whole_s)

    # In twice d0's time d2 does half of the rows, and d1 the other half.
    assert found.shares == pytest.approx((0.0, 0.5, 0.5), abs=1e-3)
    assert found.misses_s == 0.0


def test_a_deadline_that_nothing_keeps_gives_the_least_latency_and_is_said_to_be_missed() -> None:
    programme = programme_of(one_layer(), cluster_of(scale=SLOW))
    least = solved(programme, energy=False)

    found = solved(programme, energy=True, deadline_s=0.5 * least.latency_s)

    assert found.shares == pytest.approx(least.shares, abs=1e-6)
    assert found.misses_s == pytest.approx(0.5 * least.latency_s, rel=1e-3)


def test_memory_bounds_a_share() -> None:
    model = one_layer(rows=64)
    (op,) = model.operators
    weights = sum(model.specs[name].num_bytes for name in op.inputs if name in model.weights)
    cluster = cluster_of()
    half = weights + model.specs[op.output].num_bytes // 2
    short = msgspec.structs.replace(cluster.devices[2], memory_bytes=half)
    cluster = msgspec.structs.replace(cluster, devices=(*cluster.devices[:2], short))

    found = solved(programme_of(model, cluster), energy=True)

    assert found.shares == pytest.approx((0.0, 0.5, 0.5), abs=1e-6)


def test_rows_that_all_memory_together_does_not_hold_have_no_split() -> None:
    programme = programme_of(one_layer(rows=64), cluster_of(memory=3_000))

    assert programme.solve(programme.devices, energy=False, deadline_s=None) is None


@pytest.mark.parametrize(
    ("shares", "total", "rows"),
    [
        ([1.0], 5, (5,)),
        ([0.5, 0.5], 5, (3, 2)),
        ([0.5, 0.3, 0.2], 7, (4, 2, 1)),
        ([0.0, 1.0], 3, (0, 3)),
        ([1 / 3] * 3, 10, (4, 3, 3)),
        ([0.49, 0.49, 0.02], 10, (5, 5, 0)),
    ],
)
def test_rounding_by_largest_remainders(shares: list[float], total: int, rows: tuple[int, ...]) -> None:
    assert largest_remainders(shares, total) == rows


@pytest.mark.parametrize("share_of_slack", [0.0, 0.3, 0.7, None])
@pytest.mark.parametrize(
    "devices", [UNEQUAL, ((5.0, 1e9), (5.0, 0.9e9)), ((4.0, 1e8), (95.0, 2e9), (10.0, 3e8))]
)
def test_no_division_into_whole_rows_is_better_than_the_programme(
    devices: Sequence[tuple[float, float]], share_of_slack: float | None
) -> None:
    """One layer without halos: its energy and latency are the sums that one does by hand."""
    rows = 12
    model, cluster = one_layer(rows), cluster_of(devices, scale=SLOW)
    (op,) = model.operators
    programme = programme_of(model, cluster)
    flops = task_flops(model) / SLOW

    def figures(counts: Sequence[int]) -> tuple[float, float]:
        seconds = [count / rows * flops / rate for count, (_, rate) in zip(counts, devices, strict=True)]
        return max(seconds), sum(s * watts for s, (watts, _) in zip(seconds, devices, strict=True))

    cuts = combinations_with_replacement(range(rows + 1), len(devices) - 1)
    everything = [figures([b - a for a, b in pairwise((0, *cut, rows))]) for cut in cuts]
    least_s, most_s = min(s for s, _ in everything), max(s for s, _ in everything)
    deadline_s = None if share_of_slack is None else least_s + share_of_slack * (most_s - least_s)

    fast = solved(programme, energy=False)
    frugal = solved(programme, energy=True, deadline_s=deadline_s)

    assert fast.latency_s <= least_s * (1 + 1e-3)
    assert frugal.misses_s == 0.0
    least_j = min(j for s, j in everything if deadline_s is None or s <= deadline_s)
    assert frugal.energy_j <= least_j * (1 + 1e-3)
    # Rounded, it is at most one row of the dearest device off.
    assert figures(frugal.rows)[1] <= least_j + max(w * flops / rate / rows for w, rate in devices) * (
        1 + 1e-3
    )
    assert op.output in analysis_of(model).labels
