"""Tensor parallelism: groups end in partial sums."""

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
from tests.unit.planner.graphs import graph


def stages_of(model: ModelGraph, layout: Layout) -> tuple[Stage, ...]:
    """Stages of the whole model in one layout, checked."""
    analysis = analysis_of(model)
    stages = close(analysis, draft(analysis, model.operators, layout))
    verify(Decision(graph=model, cluster=Cluster.local([1.0] * 4), stages=stages))
    return stages


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
