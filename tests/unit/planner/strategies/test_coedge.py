"""CoEdge: the linear programme by hand and by brute force, deadlines, and memory."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations_with_replacement, pairwise

import msgspec
import pytest
from torch import nn

from edgeflow.cluster.cluster import Cluster, Device, Link
from edgeflow.cost import CostModel
from edgeflow.errors import InfeasiblePlanError
from edgeflow.graph.ir import ModelGraph
from edgeflow.plan import Plan, Stage
from edgeflow.planner import plan
from edgeflow.planner.analysis import analysis_of
from edgeflow.planner.objective import Objective
from edgeflow.planner.search.coedge_lp import Programme, Solution, largest_remainders
from edgeflow.planner.strategies.coedge import best_split, is_thick
from edgeflow.planner.task import Task
from tests.unit.planner.graphs import captured, graph

#: For layers by hand: devices so slow that the host link of the source takes no time beside them.
SLOW = 1e-4
#: Watts, and FLOP/s: what is slower needs less for the same work.
UNEQUAL = ((10.0, 1e9), (3.0, 0.5e9), (1.0, 0.25e9))


def cluster_of(
    devices: Sequence[tuple[float, float]] = UNEQUAL,
    *,
    bandwidth: float = 1e15,
    memory: int = 1 << 30,
    scale: float = 1.0,
) -> Cluster:
    """Devices of some watts and FLOP/s, whose kernels take time by their FLOPs alone."""
    return Cluster(
        devices=tuple(
            Device(
                name=f"d{rank}",
                flops_per_second=rate * scale,
                memory_bytes=memory,
                memory_bandwidth_bytes_per_s=1e18,
                overhead_s=0.0,
                power_compute_w=watts,
            )
            for rank, (watts, rate) in enumerate(devices)
        ),
        network=Link(bandwidth_bytes_per_s=bandwidth, latency_s=0.0),
    )


def programme_of(model: ModelGraph, cluster: Cluster, objective: Objective | None = None) -> Programme:
    cost = CostModel(cluster=cluster, message_overhead_s=0.0)
    task = Task(graph=model, cluster=cluster, cost=cost, objective=objective or Objective())
    return Programme(task, len(model.operators), tuple(cluster.ranks))


def one_layer(rows: int = 12, columns: int = 8) -> ModelGraph:
    """A convolution of 1x1: no halos, seconds exactly linear in rows."""
    return captured(nn.Conv2d(4, 32, 1), 1, 4, rows, columns)


def solved(programme: Programme, *, energy: bool, deadline_s: float | None = None) -> Solution:
    solution = programme.solve(programme.devices, energy=energy, deadline_s=deadline_s)
    assert solution is not None
    return solution


def task_flops(model: ModelGraph) -> float:
    """Of the only operator."""
    (op,) = model.operators
    return float(analysis_of(model).flops[op.name])


# By hand


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


# Against every division into whole rows


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


# Sets of devices


def test_the_smallest_share_is_left_out_until_strips_are_thick_enough() -> None:
    """Of 12 rows the slow devices would get fewer than the 2 that are needed."""
    programme = programme_of(
        one_layer(), cluster_of(((1.0, 1e9), (1.0, 1e9), (1.0, 1e8), (1.0, 0.5e8)), scale=SLOW)
    )

    found = best_split(programme, programme.devices, {12: 2}, energy=False, deadline_s=None)

    assert found is not None
    assert found.devices == (0, 1)
    assert found.rows == (6, 6)


def test_what_taking_part_costs_is_weighed() -> None:
    """A third device that would get a third of the rows is left out where halos take longer than it saves."""
    channels = pairwise([1, *[16] * 7, 1])
    model = captured(nn.Sequential(*[nn.Conv2d(a, b, 3, padding=1) for a, b in channels]), 1, 1, 24, 8)
    # A row of 512 bytes takes 0.5 s; a layer 0.44 s on two devices, 0.29 s on three, of which one has two
    # halos.
    slow = cluster_of(((1.0, 1e6),) * 3, bandwidth=1e3)
    fast = cluster_of(((1.0, 1e6),) * 3, bandwidth=1e9)

    counts = []
    for cluster in (slow, fast):
        programme = programme_of(model, cluster)
        found = best_split(programme, programme.devices, {24: 1}, energy=False, deadline_s=None)
        assert found is not None
        counts.append(len(found.devices))

    assert counts == [2, 3]


def test_thin_strips_are_seen_at_every_resolution() -> None:
    assert is_thick([10, 6], {16: 2, 8: 2})
    assert not is_thick([14, 2], {16: 2, 8: 2})
    assert not is_thick([16, 0], {16: 1})


# Plans

MODELS = ("tiny-resnet", "concat-dag", "unet", "openworld-tiny")


def proportional(made: Plan) -> float | None:
    """Energy of the split in proportion, if it keeps the deadline."""
    for item in made.candidates:
        is_kept = item.latency_s is not None and item.latency_s <= (made.deadline_s or float("inf"))
        if item.label.startswith("coedge rows in proportion") and is_kept:
            return item.energy_j
    return None


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("slack", [0.5, 1.05, 1.5, 3.0])
@pytest.mark.parametrize("bandwidth", [1e7, 1e9])
def test_energy_is_no_more_than_in_proportion_and_the_deadline_is_kept_or_missed(
    name: str, slack: float, bandwidth: float
) -> None:
    devices = ((4.0, 2e8), (10.0, 6e8), (95.0, 2e9))
    cluster = cluster_of(devices, bandwidth=bandwidth)
    fast = plan(graph(name), cluster, strategy="coedge")

    made = plan(
        graph(name),
        cluster,
        strategy="coedge",
        objective="energy",
        deadline_s=slack * fast.predicted_latency_s,
    )

    assert made.deadline_s is not None
    in_proportion = proportional(made)
    if in_proportion is not None:
        assert made.predicted_latency_s <= made.deadline_s
        assert made.predicted_energy_j <= in_proportion
    kept = made.predicted_latency_s <= made.deadline_s
    assert kept == any(
        item.latency_s is not None and item.latency_s <= made.deadline_s for item in made.candidates
    )
    assert ("is kept" in made.explain()) == kept
    assert ("is missed by" in made.explain()) != kept


def test_the_programme_saves_energy_that_the_split_in_proportion_does_not() -> None:
    """Not by falling back on one device: the deadline is too short for the efficient one alone."""
    cluster = cluster_of(((2.0, 5e8), (30.0, 1e9)), bandwidth=1e9)
    fast = plan(graph("tiny-resnet"), cluster, strategy="coedge")

    made = plan(
        graph("tiny-resnet"),
        cluster,
        strategy="coedge",
        objective="energy",
        deadline_s=1.2 * fast.predicted_latency_s,
    )

    in_proportion = proportional(made)
    assert made.chosen == "coedge rows on 2 devices"
    assert in_proportion is not None
    assert made.predicted_energy_j < 0.95 * in_proportion


def test_one_device_is_always_weighed() -> None:
    made = plan(graph("tiny-resnet"), Cluster.local([1.0, 1.0], bandwidth="1 Mbit/s"), strategy="coedge")

    assert made.chosen == "single on device0"
    assert any(item.label.startswith("coedge rows") for item in made.candidates)


def test_devices_without_a_link_do_not_share_rows() -> None:
    cluster = cluster_of(((1.0, 1e8),) * 3, bandwidth=1e9)
    cluster = msgspec.structs.replace(cluster, links=(("d1", "d2", None),))

    assert plan(graph("tiny-resnet"), cluster, strategy="coedge").devices == (0, 1)


def test_memory_that_holds_it_in_no_way_names_a_device_and_bytes() -> None:
    with pytest.raises(InfeasiblePlanError, match=r"device 'd\d' needs [\d,]+ bytes .* it offers 20,000"):
        plan(graph("tiny-resnet"), cluster_of(memory=20_000), strategy="coedge")


def intervals(stage: Stage, dim: int) -> dict[int, int]:
    """Device -> length of what it owns of the stage's first output along ``dim``."""
    return {shard.device: shard.outputs[0][1].region[dim].length for shard in stage.shards}


def slow(*speeds: float) -> Cluster:
    """Devices so slow that sharing pays on this network."""
    devices = tuple(
        Device(name=f"device{rank}", flops_per_second=1e8 * speed, memory_bytes=1 << 30, overhead_s=0.0)
        for rank, speed in enumerate(speeds)
    )
    return Cluster(devices=devices, network=Link(bandwidth_bytes_per_s=1e9, latency_s=1e-5))


def test_coedge_shares_rows_about_in_proportion_to_speed() -> None:
    made = plan(graph("tiny-resnet"), slow(1.0, 0.5, 0.5), strategy="coedge")

    first = made.stages[0]
    assert first.kind == "rows"
    assert intervals(first, 2) == {
        0: pytest.approx(16, abs=1),
        1: pytest.approx(8, abs=1),
        2: pytest.approx(8, abs=1),
    }
    assert made.chosen.startswith("coedge rows")


def test_coedge_leaves_out_a_device_whose_strip_is_thinner_than_the_padding() -> None:
    made = plan(graph("tiny-resnet"), slow(1.0, 0.5, 0.05), strategy="coedge")

    assert made.devices == (0, 1)


def test_coedge_runs_what_follows_the_cnn_on_the_fastest_device() -> None:
    made = plan(graph("tiny-resnet"), slow(0.5, 1.0, 0.5), strategy="coedge")

    assert made.stages[-1].devices == (1,)
