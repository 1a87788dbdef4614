"""What can be split, along what, and what cannot and why."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from edgeflow.graph.capture import capture
from edgeflow.graph.ir import ModelGraph
from edgeflow.planner.analysis import analysis_of
from edgeflow.planner.coverage import (
    NEEDS_ALL,
    NO_RULE,
    ONE_ELEMENT,
    SEVERAL_OUTPUTS,
    Coverage,
    OperatorCoverage,
    coverage,
    split_along,
)
from edgeflow.planner.layouts.build import draft
from edgeflow.planner.layouts.layout import Layout
from edgeflow.testing import zoo
from tests.unit.graph.interpret import Calls


def _captured(function: Any, *args: torch.Tensor) -> ModelGraph:
    module = function if isinstance(function, nn.Module) else Calls(function)
    return capture(module.eval(), args)


def _of(found: Coverage, name: str) -> OperatorCoverage:
    (item,) = [item for item in found.operators if item.target.split(".")[1] == name]
    return item


def _ways(graph: ModelGraph, name: str) -> tuple[str, ...]:
    (op,) = [op for op in graph.operators if op.target.split(".")[1] == name]
    return split_along(graph, op)


def test_dims_are_those_of_the_output_wherever_channels_are() -> None:
    """Channels last, a transposed matrix, windows: a name by rank would be wrong in each."""
    channels_last = _captured(lambda x: torch.relu(x.permute(0, 2, 3, 1)), torch.zeros(1, 3, 8, 4))
    windows = _captured(
        lambda x: x.view(1, 2, 4, 2, 4, 6).permute(0, 1, 3, 2, 4, 5).reshape(4, 16, 6),
        torch.zeros(1, 8, 8, 6),
    )
    turned = _captured(lambda x: torch.softmax(x.transpose(1, 2), dim=1), torch.zeros(1, 5, 7))

    assert _ways(channels_last, "relu") == ("dim 1", "dim 2", "dim 3")
    assert _ways(turned, "softmax") == ("dim 2",)
    assert all(way.startswith("dim ") for op in windows.operators for way in split_along(windows, op))


def test_a_sum_is_told_from_a_dim_of_the_output() -> None:
    graph = _captured(nn.Linear(16, 4), torch.zeros(1, 16))

    assert _ways(graph, "linear") == ("dim 1", "sum")


def test_barriers_say_why() -> None:
    """No rule, several outputs, a softmax over all there is, and one number alone."""

    class Barriers(nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            values, _ = torch.linalg.qr(x)
            alone = torch.relu(x[:1, :1])
            return torch.linalg.inv(x), values, torch.softmax(x[0], dim=0), alone, torch.tanh(x)

    found = coverage(_captured(Barriers(), torch.randn(6, 6)))
    why = {item.target.split(".")[1]: dict(item.whole) for item in found.barriers}

    assert why["linalg_inv"] == {NO_RULE: 1}
    assert why["linalg_qr"] == {SEVERAL_OUTPUTS: 1}
    assert why["softmax"] == {NEEDS_ALL: 1}
    assert why["relu"] == {ONE_ELEMENT: 1}
    assert found.is_bounded
    assert 0 < found.split_share < 1


def test_a_model_of_barriers_splits_nothing() -> None:
    found = coverage(_captured(lambda x: torch.linalg.inv(x), torch.randn(5, 5)))

    assert found.split_flops == 0
    assert found.split_share == 0
    assert all(reach.num_operators == 0 for reach in found.reaches)
    assert all(item.num_whole == item.count for item in found.operators)


def test_kinds_count_what_only_some_of_them_do() -> None:
    """One softmax over the rows of a matrix, one over all of a vector."""
    graph = _captured(
        lambda x: torch.softmax(x, dim=1).sum(dim=0) + torch.softmax(x[0], dim=0), torch.ones(4, 6)
    )
    found = _of(coverage(graph), "softmax")

    assert found.count == 2
    assert found.splits == {"dim 0": 1}
    assert found.whole == {NEEDS_ALL: 1}


@pytest.mark.parametrize("name", ["tiny-resnet", "tiny-vit", "unet", "concat-dag", "tiny-bert"])
def test_numbers_add_up(name: str) -> None:
    example = zoo.build(name)
    graph = capture(example.module, example.args, example.kwargs)
    found = coverage(graph)

    assert sum(item.count for item in found.operators) == len(graph.operators)
    assert sum(item.flops for item in found.operators) == found.total_flops
    assert all(0 <= item.num_whole <= item.count for item in found.operators)
    assert all(number <= item.count for item in found.operators for number in item.splits.values())
    assert found.split_share > 0.99
    rows = [reach for reach in found.reaches if reach.kind == "rows"]
    assert sum(item.num_by_inputs for item in found.operators) == rows[0].num_operators
    assert sum(item.num_by_tensor for item in found.operators) == found.reaches[-1].num_operators
    assert [reach.flops for reach in rows] == sorted((reach.flops for reach in rows), reverse=True)


def test_rows_reach_a_cnn_and_groups_reach_a_transformer() -> None:
    cnn, vit = (zoo.build(name) for name in ("tiny-resnet", "tiny-vit"))
    by_rows = coverage(capture(cnn.module, cnn.args)).reaches[0]
    by_tensor = coverage(capture(vit.module, vit.args)).reaches[-1]

    assert (by_rows.kind, by_rows.dim) == ("rows", 2)
    assert by_tensor.kind == "tensor"
    assert by_tensor.flops > 0


def test_what_a_barrier_stands_behind_is_not_reached() -> None:
    """Every row of an orthogonal basis needs all rows: it is made whole, what it is made of is not."""

    class Basis(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(3, 8, 3, padding=1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.linalg.qr(self.first(x))[0]

    found = coverage(_captured(Basis(), torch.zeros(1, 3, 16, 16)))

    assert _of(found, "conv2d").num_by_inputs == 1
    assert _of(found, "linalg_qr").num_by_inputs == 0
    assert _of(found, "linalg_qr").num_by_tensor == 0


def test_reach_is_what_the_builders_of_layouts_split() -> None:
    """A half of the devices' work at most, and never an operator that one device makes whole."""
    example = zoo.build("tiny-vit")
    graph = capture(example.module, example.args)
    analysis = analysis_of(graph)
    drafts = draft(analysis, graph.operators, Layout(kind="tensor", devices=(0, 1), shares=(1, 1)))
    replicated = sum(len(item.operators) for item in drafts if item.kind == "replicate")

    reach = coverage(graph).reaches[-1]

    assert replicated > 0
    assert reach.num_operators <= len(graph.operators) - replicated
