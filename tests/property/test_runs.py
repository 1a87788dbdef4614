"""Random measurements of runs: predictions, simulation and the lower bound go on agreeing."""

from __future__ import annotations

from functools import cache
from random import Random

import msgspec
import pytest

import edgeflow as ef
from edgeflow.cluster import Cluster
from edgeflow.cost import CostModel, MeasuredRuns, Measurement, Span, predict
from edgeflow.cost.model import written_elements
from edgeflow.graph.ir import ModelGraph
from edgeflow.plan import Plan
from edgeflow.planner.task import whole_kernels
from edgeflow.simulator import simulate
from tests.unit.plan.tiny import convs, mlp

_STRATEGIES = ("single", "fused", "coedge", "megatron", "pipeline", "edgeflow_paper", "modnn", "deepthings")


def random_cost(rng: Random, graph: ModelGraph, cluster: Cluster) -> CostModel:
    """Operators of 0.1 to 10 ms, runs of any of them, each as fast as its operators alone or faster."""
    kernels = whole_kernels(graph)
    alone = [10 ** rng.uniform(-4, -2) for _ in kernels]
    spans = []
    for start in range(len(kernels)):
        for stop in range(start + 2, len(kernels) + 1):
            if rng.random() < 0.6:
                spans.append(Span(start, stop, sum(alone[start:stop]) * rng.uniform(0.2, 1.0)))
    measured = {
        kernel.operator: Measurement(
            seconds, kernel.flops, kernel.num_bytes, elements=written_elements(kernel)
        )
        for kernel, seconds in zip(kernels, alone, strict=True)
    }
    return CostModel(
        cluster=cluster,
        measured=measured,
        measured_runs=MeasuredRuns(operators=tuple(measured), alone_s=tuple(alone), spans=tuple(spans)),
        measured_start_s=rng.uniform(0, 1e-4),
        measured_flops_per_second=max(device.flops_per_second for device in cluster.devices),
        message_overhead_s=1e-5,
    )


def random_task(seed: int) -> tuple[ModelGraph, Cluster, CostModel]:
    rng = Random(seed)
    graph = rng.choice([mlp(), convs(3, 1, 3, 3, height=16), convs(3, 3)])
    speeds = [rng.choice([1.0, 0.5, 0.3]) for _ in range(rng.randint(1, 3))]
    cluster = Cluster.local(speeds, bandwidth="10 Gbit/s", latency="0.01 ms")
    return graph, cluster, random_cost(rng, graph, cluster)


@cache
def random_plans(seed: int) -> dict[str, Plan]:
    """Return the plans of all strategies for one random task."""
    graph, cluster, cost = random_task(seed)
    return {name: ef.plan(graph, cluster, strategy=name, cost=cost) for name in _STRATEGIES}


@pytest.mark.parametrize("seed", range(12))
def test_one_request_is_simulated_as_it_is_predicted(seed: int) -> None:
    _, _, cost = random_task(seed)

    for strategy, plan in random_plans(seed).items():
        assert predict(plan, cost).latency_s == pytest.approx(plan.predicted_latency_s, rel=1e-9)
        found = simulate(plan, requests=1, cost=cost).latency_s
        assert found == pytest.approx(plan.predicted_latency_s, rel=1e-9), strategy


@pytest.mark.parametrize("seed", range(12))
def test_no_plan_beats_the_lower_bound_and_auto_beats_them_all(seed: int) -> None:
    graph, cluster, cost = random_task(seed)

    best = ef.plan(graph, cluster, strategy="auto", cost=cost)

    assert 0 < best.lower_bound_s <= best.predicted_latency_s * (1 + 1e-9)
    for strategy, rival in random_plans(seed).items():
        assert rival.predicted_latency_s >= best.lower_bound_s * (1 - 1e-9), strategy
        assert best.predicted_latency_s <= rival.predicted_latency_s * (1 + 1e-9), strategy


@pytest.mark.parametrize("seed", range(12))
def test_operators_together_take_no_longer_than_alone(seed: int) -> None:
    graph, _, cost = random_task(seed)
    kernels = whole_kernels(graph)
    apart = msgspec.structs.replace(cost, measured_runs=None)

    for start in range(len(kernels)):
        for stop in range(start + 1, len(kernels) + 1):
            some = kernels[start:stop]
            assert cost.compute_s(0, some) <= apart.compute_s(0, some) * (1 + 1e-9)


def test_one_device_is_enough_where_operators_fuse() -> None:
    """Four convolutions of 2 ms alone, so that half of each on two devices would pay in spite of the network;
    but fused they take 2.5 ms all together, of which half is not worth the way."""
    graph = convs(3, 3, 3, 3, height=32)
    cluster = Cluster.local([1.0, 1.0], bandwidth="1 Gbit/s", latency="0.6 ms")
    kernels = whole_kernels(graph)
    measured = {
        kernel.operator: Measurement(2e-3, kernel.flops, kernel.num_bytes, elements=written_elements(kernel))
        for kernel in kernels
    }
    rate = cluster.devices[0].flops_per_second
    apart = CostModel(cluster=cluster, measured=measured, measured_flops_per_second=rate)
    runs = MeasuredRuns(operators=tuple(measured), alone_s=(2e-3,) * 4, spans=(Span(0, 4, 2.5e-3),))
    fused = msgspec.structs.replace(apart, measured_runs=runs)

    summed = ef.plan(graph, cluster, strategy="auto", cost=apart)
    beside = ef.plan(graph, cluster, strategy="auto", cost=fused)

    assert len(summed.devices) == 2
    assert len(beside.devices) == 1
    assert beside.predicted_latency_s < summed.predicted_latency_s
    # What was chosen before would now be predicted to be slower.
    assert predict(summed, fused).latency_s > beside.predicted_latency_s
