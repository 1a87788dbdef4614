"""Devices that are in each other's way: splits cost more, one device alone does not."""

from __future__ import annotations

import pytest

import edgeflow as ef
from edgeflow.cost import CostModel
from tests.strategies import STRATEGIES
from tests.unit.planner.graphs import graph

CLUSTER = ef.Cluster.local([0.1, 0.1, 0.06], bandwidth="100 Gbit/s", latency=0)


def costs(contention: float) -> CostModel:
    return CostModel(cluster=CLUSTER, message_overhead_s=0.0, contention=contention)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("name", ["tiny-resnet", "tiny-vit"])
def test_predictions_and_simulations_agree_on_it(name: str, strategy: str) -> None:
    plan = ef.plan(graph(name), CLUSTER, strategy=strategy, cost=costs(1.4))
    simulated = ef.simulate(plan, cost=costs(1.4), requests=1)

    assert simulated.latencies_s[0] == pytest.approx(plan.predicted_latency_s, rel=1e-9)
    if len(plan.devices) == 1:
        assert plan.predicted_latency_s == pytest.approx(ef.predict(plan, costs(1.0)).latency_s)


@pytest.mark.parametrize("name", ["tiny-resnet", "tiny-vit"])
def test_where_splits_are_in_each_others_way_one_device_is_left(name: str) -> None:
    model = graph(name)
    free = ef.plan(model, CLUSTER, cost=costs(1.0))
    crowded = ef.plan(model, CLUSTER, cost=costs(4.0))

    assert len(free.devices) > 1
    assert len(crowded.devices) == 1
    assert crowded.predicted_latency_s < ef.predict(free, costs(4.0)).latency_s


def test_replicas_are_in_each_others_way_too() -> None:
    model = graph("tiny-resnet")
    free = ef.plan(model, CLUSTER, "replicate", "throughput", cost=costs(1.0))
    crowded = ef.plan(model, CLUSTER, "replicate", "throughput", cost=costs(1.4))

    assert len(free.ways) > 1
    assert crowded.predicted_period_s == pytest.approx(1.4 * free.predicted_period_s, rel=0.02)
    assert crowded.predicted_latency_s == pytest.approx(free.predicted_latency_s)
