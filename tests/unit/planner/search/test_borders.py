"""Rows that others wait for are made first: same answers, frames leave sooner."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import pytest
import torch
from torch import nn

import edgeflow as ef
from edgeflow.cluster.cluster import Cluster, Device, Link
from edgeflow.cost import CostModel
from edgeflow.graph.ir import ModelGraph
from edgeflow.plan.plan import Plan
from edgeflow.plan.program import Compute, Send
from edgeflow.planner import plan
from edgeflow.planner.layouts.layout import Layout
from edgeflow.planner.search.borders import borders_first
from edgeflow.planner.task import Run, Task, finish_runs
from edgeflow.testing import zoo
from tests.unit.planner.graphs import captured, graph


def slow_network(count: int, bandwidth: float = 1e6) -> Cluster:
    """Devices to which starting a kernel costs nothing, and a row takes long."""
    devices = tuple(
        Device(name=f"device{rank}", flops_per_second=1e8, memory_bytes=1 << 32, overhead_s=0.0)
        for rank in range(count)
    )
    return Cluster(devices=devices, network=Link(bandwidth_bytes_per_s=bandwidth, latency_s=1e-3))


def task_on(model: ModelGraph, cluster: Cluster) -> Task:
    return Task(graph=model, cluster=cluster, cost=CostModel(cluster=cluster, message_overhead_s=0.0))


def in_rows(task: Task) -> Plan:
    """Equal rows on all devices, halos exchanged."""
    count = len(task.cluster.devices)
    layout = Layout(kind="rows", devices=tuple(range(count)), shares=(1.0,) * count)
    return finish_runs(task, [Run(task.graph.operators, layout)], strategy="rows", label="rows")


def changed(model: ModelGraph, cluster: Cluster) -> tuple[Plan, Plan]:
    task = task_on(model, cluster)
    made = in_rows(task)
    first = borders_first(task, made)
    assert first is not None
    return made, first


@pytest.mark.parametrize("count", [2, 3])
def test_answers_are_the_same_and_come_sooner(count: int) -> None:
    module, args, kwargs = zoo.build("tiny-resnet")
    before, after = changed(graph("tiny-resnet"), slow_network(count))
    assert after.predicted_latency_s < before.predicted_latency_s
    torch.testing.assert_close(ef.execute(after, args, kwargs), module(*args, **kwargs))


@pytest.mark.parametrize("count", [2, 3])
def test_borders_leave_before_the_rest_is_made(count: int) -> None:
    _, after = changed(graph("tiny-resnet"), slow_network(count))
    names = [stage.name for stage in after.stages]
    divided = {name.partition(".border")[0] for name in names if ".border" in name}
    assert divided
    for rank, program in after.programs.items():
        order = [
            (type(item), item.stage if isinstance(item, Compute) else item.peer)
            for item in program.instructions
            if isinstance(item, Compute | Send)
        ]
        for (kind, what), (then, _) in pairwise(order):
            if kind is Compute and ".border" in str(what):
                assert then is Send, f"rank {rank} does not send right behind {what}"


def test_a_device_in_the_middle_makes_both_of_its_borders_first() -> None:
    model = captured(nn.Sequential(*[nn.Conv2d(4, 4, 3, padding=1) for _ in range(2)]), 1, 4, 30, 8)
    _, after = changed(model, slow_network(3))
    made = {
        (stage.name, shard.device): shard.outputs[0][1].region[2]
        for stage in after.stages[:3]
        for shard in stage.shards
    }
    assert made == {
        ("s0.border0", 1): (10, 11),
        ("s0.border0", 2): (20, 21),
        ("s0.border1", 0): (9, 10),
        ("s0.border1", 1): (19, 20),
        ("s0", 0): (0, 9),
        ("s0", 1): (11, 19),
        ("s0", 2): (21, 30),
    }


def test_nothing_is_divided_where_starting_again_takes_longer_than_the_frame() -> None:
    cluster = slow_network(2, bandwidth=1e9)
    dear = tuple(msgspec.structs.replace(device, overhead_s=0.1) for device in cluster.devices)
    cluster = msgspec.structs.replace(cluster, devices=dear)
    task = task_on(graph("tiny-resnet"), cluster)
    assert borders_first(task, in_rows(task)) is None


@pytest.mark.parametrize("strategy", ["single", "deepthings", "pipeline", "megatron"])
def test_plans_without_halos_have_no_borders(strategy: str) -> None:
    task = task_on(graph("tiny-vit"), slow_network(2))
    assert borders_first(task, plan(task.graph, task.cluster, strategy, cost=task.cost)) is None


def test_auto_takes_it_where_it_helps() -> None:
    task = task_on(graph("tiny-resnet"), slow_network(2))
    made = plan(task.graph, task.cluster, cost=task.cost)
    assert made.chosen.endswith("borders first")
