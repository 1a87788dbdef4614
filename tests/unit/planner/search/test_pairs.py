"""Pairs of column- and row-parallel products: found in Transformer blocks, shared out within the memory."""

from __future__ import annotations

import msgspec

from edgeflow.cluster.cluster import Cluster
from edgeflow.cost import CostModel
from edgeflow.plan.verify import memory_bytes
from edgeflow.planner.analysis import analysis_of
from edgeflow.planner.layouts.layout import Layout
from edgeflow.planner.search.pairs import has_pairs, runs_with_pairs, tensor_parallel
from edgeflow.planner.task import Task
from tests.unit.planner.graphs import graph


def task_on(cluster: Cluster, name: str = "tiny-vit") -> Task:
    return Task(graph=graph(name), cluster=cluster, cost=CostModel(cluster=cluster))


def test_transformer_blocks_have_pairs_and_cnns_do_not() -> None:
    for name, expected in (("tiny-vit", True), ("tiny-bert", True), ("tiny-resnet", False)):
        found = analysis_of(graph(name))
        assert has_pairs(found, found.graph.operators) is expected
    vit = analysis_of(graph("tiny-vit"))
    assert not has_pairs(vit, vit.graph.operators[:1])


def test_stretches_without_pairs_run_on_the_fastest_device() -> None:
    task = task_on(Cluster.local([0.5, 1.0]))
    together = Layout(kind="tensor", devices=(0, 1), shares=(1.0, 1.0))
    alone = Layout(kind="single", devices=(1,))

    runs = runs_with_pairs(task, together)

    assert [run.layout for run in runs] == [
        together if has_pairs(task.analysis, stretch) else alone for stretch in task.analysis.stretches
    ]
    assert {run.layout for run in runs_with_pairs(task, None)} == {alone}


def test_a_device_that_is_too_small_for_its_share_hands_over_what_is_too_much() -> None:
    cluster = Cluster.local([1.0, 1.0])
    free = tensor_parallel(task_on(cluster), reduce="direct", strategy="megatron", label="free")
    needed = memory_bytes(free.programs)
    limit = int(0.8 * needed[1])
    small = msgspec.structs.replace(cluster.devices[1], memory_bytes=limit)
    tight = msgspec.structs.replace(cluster, devices=(cluster.devices[0], small))

    made = tensor_parallel(task_on(tight), reduce="direct", strategy="megatron", label="tight")

    found = memory_bytes(made.programs)
    assert found[1] <= limit
    assert found[0] > needed[0]
