"""The task: the order of its devices, and runs of one layout."""

from __future__ import annotations

from edgeflow.cluster.cluster import Cluster
from edgeflow.cost import CostModel
from edgeflow.planner.layouts.layout import Layout
from edgeflow.planner.task import Run, Task, merge_runs
from tests.unit.plan.tiny import convs


def test_neighbouring_runs_of_one_layout_are_joined_unless_halos_would_grow() -> None:
    first, second = convs(3, 3).operators
    exchanged = Layout(kind="rows", devices=(0, 1), shares=(1.0, 1.0))
    recomputed = Layout(kind="rows", devices=(0, 1), shares=(1.0, 1.0), exchange=False)

    assert merge_runs([Run((first,), exchanged), Run((second,), exchanged)]) == [
        Run((first, second), exchanged)
    ]
    assert len(merge_runs([Run((first,), recomputed), Run((second,), recomputed)])) == 2


def test_devices_are_ordered_by_speed() -> None:
    cluster = Cluster.local([0.5, 1.0, 0.5, 0.7])
    task = Task(graph=convs(3), cluster=cluster, cost=CostModel(cluster=cluster))

    assert task.fastest == (1, 3, 0, 2)
