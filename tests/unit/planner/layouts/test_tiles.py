"""Grids of fused tiles: their sizes, who gets them, and what reuse leaves of each layer."""

from __future__ import annotations

from collections import Counter
from functools import cache

import pytest
import torch
from torch import Tensor, nn

from edgeflow.cluster.cluster import Cluster
from edgeflow.cost import CostModel
from edgeflow.graph.ir import ModelGraph
from edgeflow.plan import Decision, Plan, Stage, Weighed, verify_plan
from edgeflow.planner.analysis import analysis_of
from edgeflow.planner.layouts.tiles import deal, edges_of, fusable, grid_boxes
from edgeflow.planner.strategies.deepthings import tiled
from edgeflow.planner.task import Task
from edgeflow.rank.local import execute
from edgeflow.sharding.region import Interval, Region
from tests.unit.planner.graphs import captured, graph


@cache
def two_convolutions() -> ModelGraph:
    """Images of 12x12; four operators."""
    layers = [nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.Conv2d(2, 1, 3, padding=1), nn.ReLU()]
    return captured(nn.Sequential(*layers), 1, 1, 12, 12)


def task(model: ModelGraph, *speeds: float) -> Task:
    cluster = Cluster.local(speeds)
    return Task(graph=model, cluster=cluster, cost=CostModel(cluster=cluster))


def rows_and_columns(stage: Stage, tensor: str) -> list[tuple[int, Interval, Interval]]:
    return [
        (shard.device, piece.region[2], piece.region[3])
        for shard in stage.shards
        for name, piece in shard.outputs
        if name == tensor
    ]


def test_sizes_are_rounded_up_and_the_last_takes_what_remains() -> None:
    boxes = grid_boxes(Region.full((1, 3, 38, 10)), (2, 3), (5, 3))

    assert [boxes[i, 0][2].length for i in range(5)] == [8, 8, 8, 8, 6]
    assert [boxes[0, j][3].length for j in range(3)] == [4, 4, 2]


def test_a_grid_finer_than_the_map_has_fewer_tiles() -> None:
    boxes = grid_boxes(Region.full((1, 3, 5)), (2,), (4, 1))

    assert [box[2].length for box in boxes.values()] == [2, 2, 1]


def test_tiles_are_dealt_in_proportion_to_speed() -> None:
    dealt = deal([(i, j) for i in range(6) for j in range(6)], [1.0, 0.5, 0.25, 0.25])

    assert Counter(dealt.values()) == {0: 19, 1: 9, 2: 4, 3: 4}
    first = Counter(rank for (i, j), rank in dealt.items() if (i + j) % 2 == 0)
    assert first == {0: 10, 1: 4, 2: 2, 3: 2}


def test_a_branch_cannot_be_fused_halfway() -> None:
    """The residual blocks of a ResNet end at their sum; between, two maps are alive."""
    model = graph("tiny-resnet")
    analysis = analysis_of(model)

    lengths = fusable(analysis, edges_of(analysis))

    for length in lengths:
        made = {name for op in model.operators[:length] for name in op.outputs}
        read = {name for op in model.operators[length:] for name in op.inputs} | set(model.outputs)
        assert made & read == set(model.operators[length - 1].outputs)
    assert len(lengths) < len(model.operators)
    assert "pool" in model.operators[lengths[-1]].target


@pytest.mark.parametrize("name", ["mlp", "tiny-bert"])
def test_without_convolutions_nothing_is_fused(name: str) -> None:
    analysis = analysis_of(graph(name))

    assert fusable(analysis, edges_of(analysis)) == ()


def test_tiles_make_borders_again() -> None:
    stages = tiled(task(two_convolutions(), 1.0, 1.0), 4, (2, 2), reuse=False)

    (stage,) = stages
    assert sorted(rows_and_columns(stage, "relu_1")) == [
        (0, Interval(0, 6), Interval(0, 6)),
        (0, Interval(0, 6), Interval(6, 12)),
        (1, Interval(6, 12), Interval(0, 6)),
        (1, Interval(6, 12), Interval(6, 12)),
    ]


def test_the_second_colour_makes_only_what_its_neighbours_have_not() -> None:
    """A tile needs 7x7 of the first map; of these the two beside it make a row and a column, two deep."""
    stages = tiled(task(two_convolutions(), 1.0, 1.0), 4, (2, 2), reuse=True)

    full, first, second = stages
    assert [stage.operators for stage in stages] == [
        ("conv2d", "relu", "conv2d_1", "relu_1"),
        ("conv2d", "relu"),
        ("conv2d_1", "relu_1"),
    ]
    assert sorted(rows_and_columns(first, "relu")) == [
        (0, Interval(0, 5), Interval(7, 12)),
        (1, Interval(7, 12), Interval(0, 5)),
    ]
    borders = rows_and_columns(full, "relu")
    assert sum(rows.length * columns.length for _, rows, columns in borders) == 2 * (7 * 7 - 5 * 5) - 2 * 2
    assert len(second.shards) == len(full.shards) == 2


class Residual(nn.Module):
    """Strides, even kernels, dilation, and a branch around them."""

    def __init__(self) -> None:
        super().__init__()
        self.before = nn.Conv2d(2, 4, 4, stride=2, padding=1)
        self.a = nn.Conv2d(4, 4, 3, padding=2, dilation=2)
        self.b = nn.Conv2d(4, 4, 5, padding=2, groups=2)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        y_NCHW = self.before(x_NCHW).relu()
        z_NCHW: Tensor = self.pool(y_NCHW + self.b(self.a(y_NCHW).sigmoid()))
        return z_NCHW


@cache
def residual() -> ModelGraph:
    return captured(Residual(), 2, 2, 37, 50)


@pytest.mark.parametrize("reuse", [False, True])
@pytest.mark.parametrize("grid", [(1, 1), (2, 3), (5, 5), (40, 1)])
def test_every_grid_is_exact(grid: tuple[int, int], reuse: bool) -> None:
    model = residual()
    analysis = analysis_of(model)
    given = task(model, 1.0, 0.4, 0.7)
    length = fusable(analysis, edges_of(analysis))[-1]
    assert length == len(model.operators)

    plan = Plan(
        Decision(graph=model, cluster=given.cluster, stages=tiled(given, length, grid, reuse=reuse)),
        Weighed(strategy="tiles"),
    )
    verify_plan(plan)

    x_NCHW = torch.randn(2, 2, 37, 50)
    alone = tiled(given, length, (1, 1), reuse=False)
    expected = execute(
        Plan(Decision(graph=model, cluster=given.cluster, stages=alone), Weighed(strategy="tiles")), (x_NCHW,)
    )
    torch.testing.assert_close(execute(plan, (x_NCHW,)), expected)
