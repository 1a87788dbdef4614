"""Pipelines of groups: every device is in one group, memory is kept, and coarse models gain."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import edgeflow as ef
from edgeflow.cluster import Cluster
from edgeflow.cost import CostModel
from edgeflow.graph.ir import ModelGraph
from edgeflow.plan import verify_plan
from edgeflow.planner.objective import Objective
from edgeflow.planner.search.groups import grouped, groupings
from edgeflow.planner.task import Task, finish_runs
from tests.unit.plan.tiny import mlp


def task(graph: ModelGraph, cluster: Cluster) -> Task:
    return Task(
        graph=graph, cluster=cluster, cost=CostModel(cluster=cluster), objective=Objective(kind="throughput")
    )


def two_heavy_layers() -> nn.Module:
    """Two convolutions with 2.25 MiB of weights each, and nothing else that takes time."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(), nn.Conv2d(256, 256, 3, padding=1), nn.ReLU()
    ).eval()


@pytest.mark.parametrize("count", [2, 3, 4, 7, 12])
def test_every_device_is_in_one_group(count: int) -> None:
    given = task(mlp(), Cluster.local([0.7**rank for rank in range(count)]))
    found = groupings(given)

    assert len(found) == len(set(found))
    assert bool(found) == (count > 2)
    for groups in found:
        assert sorted(rank for group in groups for rank in group) == list(range(count))
        assert all(groups)
        assert 1 < len(groups) < count


def test_speeds_add_up_alike() -> None:
    given = task(mlp(), Cluster.local([1.0, 0.5, 0.5, 0.25, 0.25, 0.5]))
    sums = [[sum(given.speeds[rank] for rank in group) for group in groups] for groups in groupings(given)]
    assert all(max(found) < 2.5 * min(found) for found in sums if len(found) == 2)


def test_a_model_of_few_large_layers_gains_by_groups() -> None:
    """No device holds both layers, so copies are out, and a stage a device leaves two devices idle."""
    module = two_heavy_layers()
    x = torch.randn(1, 256, 16, 16)
    graph = ef.capture(module, (x,))
    cluster = Cluster.local([0.05] * 4, bandwidth="10 Gbit/s", latency="50 us", memory="6 MiB")

    made = ef.plan(graph, cluster, strategy="auto", objective="throughput")
    alone = ef.plan(graph, cluster, strategy="pipeline", objective="throughput")

    assert len(alone.devices) == 2
    assert len(made.devices) == 4
    assert made.predicted_period_s < 0.7 * alone.predicted_period_s
    torch.testing.assert_close(ef.execute(made, (x,)), module(x), rtol=1e-4, atol=1e-4)


def test_what_is_proposed_keeps_the_memory_of_weights() -> None:
    """Of 4.5 MiB of weights, no device is given more than it has, though buffers were not counted."""
    graph = ef.capture(two_heavy_layers(), (torch.randn(1, 256, 4, 4),))
    given = task(graph, Cluster.local([1.0, 0.5, 0.25, 0.25], memory="3 MiB"))
    proposals = list(grouped(given))

    assert proposals
    for label, runs in proposals:
        verify_plan(finish_runs(given, runs, strategy="auto", label=label))


def test_nothing_is_proposed_where_weights_fit_nowhere() -> None:
    graph = ef.capture(two_heavy_layers(), (torch.randn(1, 256, 4, 4),))
    assert list(grouped(task(graph, Cluster.local([1.0] * 3, memory="1 KiB")))) == []
