"""Rows: halos exchanged or recomputed, sums over rows."""

from __future__ import annotations

from edgeflow.cluster.cluster import Cluster
from edgeflow.graph.ir import ModelGraph
from edgeflow.plan import Stage
from edgeflow.plan.decision import Decision
from edgeflow.plan.verify import verify
from edgeflow.planner.analysis import analysis_of
from edgeflow.planner.layouts.build import draft
from edgeflow.planner.layouts.layout import Layout, close
from edgeflow.sharding.region import Interval
from tests.unit.plan.tiny import convs
from tests.unit.planner.graphs import graph


def stages_of(model: ModelGraph, layout: Layout) -> tuple[Stage, ...]:
    """Stages of the whole model in one layout, checked."""
    analysis = analysis_of(model)
    stages = close(analysis, draft(analysis, model.operators, layout))
    verify(Decision(graph=model, cluster=Cluster.local([1.0] * 4), stages=stages))
    return stages


def rows_of(stage: Stage, tensor: str) -> dict[int, Interval]:
    return {shard.device: piece.region[2] for shard in stage.shards if (piece := shard.piece(tensor))}


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
