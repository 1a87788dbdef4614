"""Layouts: their stages hold every operator once, and their labels."""

from __future__ import annotations

import pytest

from edgeflow.cluster.cluster import Cluster
from edgeflow.graph.ir import ModelGraph
from edgeflow.plan import Decision, Plan, Stage, Weighed, verify_plan
from edgeflow.planner.analysis import analysis_of
from edgeflow.planner.layouts.build import draft
from edgeflow.planner.layouts.layout import Layout, close
from tests.unit.planner.graphs import graph


def stages_of(model: ModelGraph, layout: Layout) -> tuple[Stage, ...]:
    """Stages of the whole model in one layout, checked."""
    analysis = analysis_of(model)
    stages = close(analysis, draft(analysis, model.operators, layout))
    verify_plan(
        Plan(Decision(graph=model, cluster=Cluster.local([1.0] * 4), stages=stages), Weighed(strategy="test"))
    )
    return stages


def test_single_is_one_stage_on_one_device() -> None:
    (stage,) = stages_of(graph("tiny-vit"), Layout(kind="single", devices=(2,)))

    assert (stage.kind, stage.devices) == ("single", (2,))
    assert stage.outputs == graph("tiny-vit").outputs


@pytest.mark.parametrize("name", ["tiny-vit", "tiny-resnet", "tiny-bert", "unet", "concat-dag", "mlp"])
@pytest.mark.parametrize("kind", ["rows", "tensor"])
def test_stages_hold_every_operator_once(name: str, kind: str) -> None:
    layout = Layout(kind=kind, devices=(0, 1, 2), shares=(1.0, 0.5, 0.2))  # type: ignore[arg-type]

    stages = stages_of(graph(name), layout)

    operators = [operator for stage in stages for operator in stage.operators]
    assert sorted(operators) == sorted(op.name for op in graph(name).operators)
    assert [stage.name for stage in stages] == [f"s{index}" for index in range(len(stages))]


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
