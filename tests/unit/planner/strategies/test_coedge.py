"""`coedge`: sets of devices, deadlines and memory."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import pytest
from torch import nn

from edgeflow.cluster.cluster import Cluster, Device, Link
from edgeflow.errors import InfeasiblePlanError
from edgeflow.plan import Plan, Stage
from edgeflow.planner import plan
from edgeflow.planner.strategies.coedge import best_split, is_thick
from tests.unit.planner.coedge_programmes import (
    SLOW,
    cluster_of,
    one_layer,
    programme_of,
)
from tests.unit.planner.graphs import captured, graph


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
