"""Strategies on a part of a cluster; more devices never make `auto` slower."""

from __future__ import annotations

import dataclasses

import msgspec
import pytest

from edgeflow.cluster.cluster import Cluster, Link
from edgeflow.cost import CostModel
from edgeflow.errors import InfeasiblePlanError
from edgeflow.plan import Plan, verify_plan
from edgeflow.planner import plan
from edgeflow.planner.search.fewer import on_part, parts
from edgeflow.planner.strategies.fused import fused
from edgeflow.planner.strategies.replicate import replicate
from edgeflow.planner.task import Task
from tests.unit.planner.graphs import graph


def boards(count: int, bandwidth: str) -> Cluster:
    return Cluster.local((0.02,) * count, bandwidth=bandwidth, latency="0.5 ms")


def task_on(cluster: Cluster) -> Task:
    return Task(graph=graph("tiny-resnet"), cluster=cluster, cost=CostModel(cluster=cluster))


@pytest.mark.parametrize("bandwidth", ["1 Gbit/s", "100 Mbit/s"])
@pytest.mark.parametrize(("fewer", "more"), [(4, 6), (6, 8), (12, 16)])
def test_more_boards_do_not_make_it_slower(bandwidth: str, fewer: int, more: int) -> None:
    few, many = (
        plan(graph("tiny-resnet"), boards(count, bandwidth)).predicted_latency_s for count in (fewer, more)
    )
    assert many <= few * (1 + 1e-9)


def test_a_plan_for_a_part_is_that_of_the_part_on_its_own() -> None:
    """Devices 1, 4 and 5, of which 4 is where requests arrive."""
    whole = Cluster.local((1.0, 0.5, 0.9, 0.8, 0.25, 0.7), bandwidth="1 Gbit/s", latency="0.1 ms")
    whole = msgspec.structs.replace(whole, source="device4")
    alone = Cluster.local((0.5, 0.25, 0.7), bandwidth="1 Gbit/s", latency="0.1 ms")
    alone = msgspec.structs.replace(alone, source="device1")
    corrected = CostModel(cluster=whole, corrections={"device5": {"*": 2.0}, "device0": {"*": 3.0}})
    task = msgspec.structs.replace(task_on(whole), cost=corrected)
    made = on_part(task, (5, 1, 4), fused)
    expected = fused(
        Task(
            graph=task.graph,
            cluster=alone,
            cost=CostModel(cluster=alone, corrections={"device2": {"*": 2.0}}),
        )
    )
    verify_plan(made)
    assert made.cluster == whole
    assert made.predicted_latency_s == pytest.approx(expected.predicted_latency_s, rel=1e-12)
    named = {0: 1, 1: 4, 2: 5}
    assert made.devices == tuple(named[rank] for rank in expected.devices)
    assert made.chosen.endswith("on 3 devices")


def taking(latency_s: float, made: Plan) -> Plan:
    """The plan as if its latency had been predicted so."""
    return made.reweighed(figures=msgspec.structs.replace(made.figures, latency_s=latency_s))


def test_every_way_of_a_plan_comes_along() -> None:
    task = task_on(boards(4, "1 Gbit/s"))
    made = on_part(task, (0, 2, 3), replicate)
    assert sorted(way.devices for way in made.ways) == [(0,), (2,), (3,)]


def test_parts_hold_the_source_and_shrink() -> None:
    whole = msgspec.structs.replace(
        Cluster.local((1.0,) * 5 + (0.1,), bandwidth="1 Gbit/s", latency="0.1 ms"), source="device5"
    )
    task = task_on(whole)
    slow = taking(1e9, plan(task.graph, whole, "single"))
    everywhere = plan(task.graph, whole, "replicate", "throughput")
    assert len(everywhere.devices) == 6
    found = list(parts(task, slow, everywhere))
    assert [len(part) for part in found] == [4, 3, 2]
    assert all(5 in part for part in found)
    on_three = Plan(
        dataclasses.replace(everywhere.decision, replicas=everywhere.replicas[:2]), everywhere.weighed
    )
    assert [len(part) for part in parts(task, slow, on_three)] == [2]


def test_parts_that_are_too_slow_together_are_not_tried() -> None:
    task = task_on(boards(6, "1 Gbit/s"))
    quick = taking(task.alone_s[0] / 3.5, plan(task.graph, task.cluster, "single"))
    everywhere = plan(task.graph, task.cluster, "replicate", "throughput")
    ideal = taking(task.alone_s[0] / 6, everywhere)
    assert [len(part) for part in parts(task, quick, ideal)] == [4]
    # What six devices take beside the work does not vanish with four.
    wasteful = taking(quick.predicted_latency_s, everywhere)
    assert not list(parts(task, quick, wasteful))


def test_a_part_without_a_way_between_its_devices() -> None:
    whole = boards(3, "1 Gbit/s")
    cut: list[tuple[str, str, Link | None]] = [
        (a, b, None) for a in ("device0", "device2") for b in ("device0", "device2") if a != b
    ]
    task = task_on(msgspec.structs.replace(whole, links=tuple(cut)))
    with pytest.raises(InfeasiblePlanError, match="device2"):
        on_part(task, (0, 2), fused)
