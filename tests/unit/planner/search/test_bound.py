"""The lower bound: work divided at will, without transfers."""

from __future__ import annotations

import pytest
from torch import nn

from edgeflow.cluster.cluster import Cluster
from edgeflow.cost import CostModel
from edgeflow.planner.search.bound import lower_bound_s
from edgeflow.planner.task import Task
from tests.unit.planner.graphs import captured


def task_on(module: nn.Module, *speeds: float) -> Task:
    cluster = Cluster.local(speeds)
    model = captured(module, 1, 64)
    return Task(graph=model, cluster=cluster, cost=CostModel(cluster=cluster))


def test_one_operator_is_divided_by_speed() -> None:
    """Of devices that take t and u for it, at least 1 / (1/t + 1/u)."""
    task = task_on(nn.Linear(64, 64), 1.0, 0.5)
    fast_s, slow_s = task.alone_s

    assert lower_bound_s(task) == pytest.approx(1 / (1 / fast_s + 1 / slow_s))


def test_one_device_does_everything() -> None:
    task = task_on(nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 8)), 1.0)

    assert lower_bound_s(task) == pytest.approx(task.alone_s[0])


def test_a_graph_without_operators_takes_no_time() -> None:
    assert lower_bound_s(task_on(nn.Identity(), 1.0, 1.0)) == 0.0
