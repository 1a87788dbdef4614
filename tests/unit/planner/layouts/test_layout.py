"""From a layout to stages: what each device owns, and where devices synchronise."""

from __future__ import annotations

import pytest

from edgeflow.cluster.cluster import Cluster
from edgeflow.cost import CostModel
from edgeflow.graph.ir import ModelGraph
from edgeflow.plan import Decision, Plan, Stage, Weighed, verify_plan
from edgeflow.planner.analysis import analysis_of
from edgeflow.planner.layouts.build import draft
from edgeflow.planner.layouts.layout import Layout, close
from edgeflow.planner.task import Run, Task, merge_runs
from edgeflow.sharding.region import Interval
from tests.unit.plan.tiny import convs
from tests.unit.planner.graphs import graph


def stages_of(model: ModelGraph, layout: Layout) -> tuple[Stage, ...]:
    """Stages of the whole model in one layout, checked."""
    analysis = analysis_of(model)
    stages = close(analysis, draft(analysis, model.operators, layout))
    verify_plan(
        Plan(Decision(graph=model, cluster=Cluster.local([1.0] * 4), stages=stages), Weighed(strategy="test"))
    )
    return stages


def rows_of(stage: Stage, tensor: str) -> dict[int, Interval]:
    return {shard.device: piece.region[2] for shard in stage.shards if (piece := shard.piece(tensor))}


def test_single_is_one_stage_on_one_device() -> None:
    (stage,) = stages_of(graph("tiny-vit"), Layout(kind="single", devices=(2,)))

    assert (stage.kind, stage.devices) == ("single", (2,))
    assert stage.outputs == graph("tiny-vit").outputs


def test_rows_in_proportion_with_halos_exchanged() -> None:
    layout = Layout(kind="rows", devices=(0, 1), shares=(3.0, 1.0))

    stages = stages_of(convs(3, 3, 1), layout)

    # A synchronisation before the second convolution; the third one reads what is there.
    assert [stage.operators for stage in stages] == [("conv2d",), ("conv2d_1", "conv2d_2")]
    assert rows_of(stages[0], "conv2d") == {0: Interval(0, 6), 1: Interval(6, 8)}
    assert rows_of(stages[1], "conv2d_2") == {0: Interval(0, 6), 1: Interval(6, 8)}


def test_rows_with_halos_recomputed_are_one_stage() -> None:
    layout = Layout(kind="rows", devices=(0, 1), shares=(3.0, 1.0), exchange=False)

    (stage,) = stages_of(convs(3, 3, 1), layout)

    assert stage.outputs == ("conv2d_2",)


def test_strips_follow_the_order_of_the_devices() -> None:
    (stage,) = stages_of(convs(3), Layout(kind="rows", devices=(3, 0), shares=(1.0, 1.0)))

    assert rows_of(stage, "conv2d") == {3: Interval(0, 4), 0: Interval(4, 8)}


def test_a_share_of_nothing_is_no_shard() -> None:
    (stage,) = stages_of(convs(3), Layout(kind="rows", devices=(0, 1, 2), shares=(1.0, 0.0, 1.0)))

    assert stage.devices == (0, 2)


def test_a_global_pool_is_summed_over_rows() -> None:
    model = graph("tiny-resnet")
    pool = next(op.output for op in model.operators if "pool" in op.target)

    stages = stages_of(model, Layout(kind="rows", devices=(0, 1), shares=(3.0, 1.0)))

    sums = {
        shard.device: piece.contraction
        for stage in stages
        for shard in stage.shards
        if (piece := shard.piece(pool)) is not None
    }
    assert sums == {0: Interval(0, 6), 1: Interval(6, 8)}


def test_tensor_parallel_ends_in_partial_sums_of_whole_heads() -> None:
    layout = Layout(kind="tensor", devices=(0, 1, 2), shares=(3.0, 2.0, 1.0))

    stages = stages_of(graph("tiny-vit"), layout)

    heads = [
        [piece.contraction for shard in stage.shards for _, piece in shard.outputs if piece.contraction]
        for stage in stages
    ]
    expected = [Interval(0, 48), Interval(48, 80), Interval(80, 96)]
    assert heads.count(expected) == 2  # one attention a block
    assert {stage.kind for stage in stages} <= {"tensor", "replicate"}


@pytest.mark.parametrize("name", ["tiny-vit", "tiny-resnet", "tiny-bert", "unet", "concat-dag", "mlp"])
@pytest.mark.parametrize("kind", ["rows", "tensor"])
def test_stages_hold_every_operator_once(name: str, kind: str) -> None:
    layout = Layout(kind=kind, devices=(0, 1, 2), shares=(1.0, 0.5, 0.2))  # type: ignore[arg-type]

    stages = stages_of(graph(name), layout)

    operators = [operator for stage in stages for operator in stage.operators]
    assert sorted(operators) == sorted(op.name for op in graph(name).operators)
    assert [stage.name for stage in stages] == [f"s{index}" for index in range(len(stages))]


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


@pytest.mark.parametrize(
    ("layout", "label"),
    [
        (Layout(kind="single", devices=(1,)), "single on rank 1"),
        (Layout(kind="rows", devices=(0, 1)), "rows on 2 devices"),
        (Layout(kind="rows", devices=(0, 1), exchange=False), "rows, halos recomputed on 2 devices"),
        (Layout(kind="tensor", devices=(0, 1, 2)), "tensor-parallel on 3 devices"),
    ],
)
def test_labels(layout: Layout, label: str) -> None:
    assert layout.label == label
