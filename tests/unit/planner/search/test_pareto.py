"""The front: nothing in it is beaten in everything, and nothing that was found beats what is in it."""

from __future__ import annotations

import msgspec
import pytest

from edgeflow.cluster.cluster import Cluster
from edgeflow.errors import InfeasiblePlanError
from edgeflow.plan import Plan
from edgeflow.planner import pareto, plan
from tests.unit.planner.graphs import graph


def figures(made: Plan) -> tuple[float, float, float]:
    return made.predicted_latency_s, made.predicted_period_s, made.predicted_energy_j


def cluster_with_power() -> Cluster:
    """A fast device that is thirsty, and slow ones that are not."""
    cluster = Cluster.local([1.0, 0.4, 0.4], bandwidth="10 Gbit/s", latency="0.05 ms")
    watts = (40.0, 4.0, 4.0)
    devices = tuple(
        msgspec.structs.replace(device, power_compute_w=power)
        for device, power in zip(cluster.devices, watts, strict=True)
    )
    return msgspec.structs.replace(cluster, devices=devices)


def test_no_plan_of_the_front_is_beaten_by_another() -> None:
    front = pareto(graph("tiny-resnet"), cluster_with_power())

    assert len(front) >= 3
    for one in front:
        for other in front:
            beaten = all(a <= b for a, b in zip(figures(other), figures(one), strict=True))
            assert one is other or not beaten


def test_the_front_holds_the_best_of_each_objective() -> None:
    cluster = cluster_with_power()
    front = pareto(graph("tiny-resnet"), cluster)

    for index, objective in enumerate(("latency", "throughput", "energy")):
        best = figures(plan(graph("tiny-resnet"), cluster, objective=objective))[index]
        assert min(figures(made)[index] for made in front) <= best * (1 + 1e-6)


def test_a_deadline_is_kept_where_it_can_be_and_else_missed_by_least() -> None:
    cluster = cluster_with_power()
    quick = plan(graph("tiny-resnet"), cluster)
    frugal = plan(graph("tiny-resnet"), cluster, objective="energy")
    between_s = (quick.predicted_latency_s + frugal.predicted_latency_s) / 2

    kept = plan(graph("tiny-resnet"), cluster, objective="energy", deadline_s=between_s)
    missed = plan(graph("tiny-resnet"), cluster, objective="energy", deadline_s=1e-6)

    assert frugal.predicted_energy_j < kept.predicted_energy_j
    assert kept.predicted_latency_s <= between_s
    assert missed.predicted_latency_s == pytest.approx(quick.predicted_latency_s)
    assert "missed by" in missed.explain()


def test_a_model_that_fits_nowhere_has_no_front() -> None:
    with pytest.raises(InfeasiblePlanError, match="bytes"):
        pareto(graph("tiny-resnet"), Cluster.local([1.0, 1.0], memory=1000))
