"""Frames counted before programs are written: never more than there are, enough to tell the hopeless."""

from __future__ import annotations

import pytest
import torch

from edgeflow.cluster import Cluster
from edgeflow.cost.model import CostModel
from edgeflow.errors import InfeasiblePlanError
from edgeflow.graph.capture import capture
from edgeflow.plan.program import Receive, Send
from edgeflow.planner import plan, strategies
from edgeflow.planner.estimates.frames import busiest_s
from edgeflow.planner.strategies.auto import auto
from edgeflow.planner.strategies.galaxy import galaxy
from edgeflow.planner.strategies.megatron import megatron
from edgeflow.planner.strategies.single import single
from edgeflow.planner.task import Task
from edgeflow.testing.random_models import random_model
from tests.unit.planner.graphs import graph

SPEEDS = (1.0, 0.6, 0.36, 0.216)


def boards(count: int) -> Cluster:
    return Cluster.local(
        tuple(SPEEDS[rank % 4] for rank in range(count)), bandwidth="1 Gbit/s", latency="0.1 ms"
    )


@pytest.mark.parametrize(
    ("model", "count"),
    [("tiny-resnet", 2), ("tiny-resnet", 9), ("tiny-vit", 5), ("openworld-tiny", 9), ("hf-swin-small", 3)],
)
def test_no_plan_is_faster_than_its_bound(model: str, count: int) -> None:
    cluster, model_graph = boards(count), graph(model)
    # Frames dear enough that they are most of what there is.
    cost = CostModel(cluster=cluster, message_overhead_s=1e-3)
    for name in strategies():
        if name == "brute_force":
            continue
        made = plan(model_graph, cluster, strategy=name, cost=cost)
        for way in made.ways:
            bound_s, rank = busiest_s(model_graph, cost, way.stages)
            program = way.programs.get(rank)
            frames = (
                []
                if program is None
                else [item for item in program.instructions if isinstance(item, Send | Receive)]
            )
            assert bound_s <= len(frames) * 1e-3 + 1e-12
            assert bound_s <= made.predicted_latency_s or len(made.ways) > 1


def test_nearly_all_frames_of_tensor_parallel_plans_are_counted() -> None:
    vit, cluster = graph("tiny-vit"), boards(4)
    cost = CostModel(cluster=cluster, message_overhead_s=1e-3)
    for name in ("megatron", "galaxy"):
        made = plan(vit, cluster, strategy=name, cost=cost)
        bound_s, rank = busiest_s(vit, cost, made.stages)
        num_frames = sum(isinstance(item, Send | Receive) for item in made.programs[rank].instructions)
        assert bound_s > 0.75 * num_frames * 1e-3
        assert busiest_s(vit, cost, made.stages, enough_s=0.0)[0] > 0.0
        assert busiest_s(vit, cost, made.stages, enough_s=0.0)[0] <= bound_s


def test_a_strategy_that_is_sure_to_be_worse_says_so_without_programs() -> None:
    vit, cluster = graph("tiny-vit"), boards(20)
    task = Task(graph=vit, cluster=cluster, cost=CostModel(cluster=cluster, message_overhead_s=1e-3))
    alone = single(task)
    exact = megatron(task)
    assert exact.predicted_latency_s > alone.predicted_latency_s
    with pytest.raises(InfeasiblePlanError, match=r"for the frames of .* alone") as caught:
        megatron(task.within(alone.predicted_latency_s))
    assert caught.value.required is not None
    assert alone.predicted_latency_s < caught.value.required <= exact.predicted_latency_s
    # Of few devices everything is predicted.
    few = Task(graph=vit, cluster=boards(4), cost=CostModel(cluster=boards(4), message_overhead_s=1e-3))
    assert galaxy(few.within(1e-9)).predicted_latency_s > 1e-9


def test_auto_names_what_it_did_not_predict() -> None:
    vit, cluster = graph("tiny-vit"), boards(20)
    task = Task(graph=vit, cluster=cluster, cost=CostModel(cluster=cluster, message_overhead_s=1e-3))
    made = auto(task, (single, megatron))
    unpredicted = {item.label: item.reason for item in made.candidates if item.latency_s is None}
    assert "at least" in unpredicted["megatron"]
    assert made.predicted_latency_s <= single(task).predicted_latency_s


def test_bounds_of_models_drawn_at_random() -> None:
    for seed in range(6):
        torch.manual_seed(seed)
        module, args = random_model(seed)
        drawn = capture(module, args)
        cluster = boards(2 + seed % 4)
        cost = CostModel(cluster=cluster, message_overhead_s=1e-3)
        for name in ("edgeflow_paper", "fused", "megatron", "galaxy", "voltage", "modnn"):
            made = plan(drawn, cluster, strategy=name, cost=cost)
            assert busiest_s(drawn, cost, made.stages)[0] <= made.predicted_latency_s
