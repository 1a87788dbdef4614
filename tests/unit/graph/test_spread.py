"""Statistics over whole maps, written out: the same numbers, and nothing left that needs every row."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from edgeflow.graph.capture import capture
from edgeflow.planner.analysis import analysis_of
from tests.unit.graph.interpret import Calls, captured, run, targets


def with_affine(norm: Any) -> nn.Module:
    with torch.no_grad():
        norm.weight.normal_()
        norm.bias.normal_()
    module: nn.Module = norm
    return module


_NORMS = [
    (with_affine(nn.GroupNorm(2, 6)), (2, 6, 5, 4)),
    (nn.GroupNorm(3, 6, affine=False, eps=0.1), (1, 6, 5, 4)),
    (with_affine(nn.GroupNorm(6, 6)), (2, 6, 9)),
    (with_affine(nn.GroupNorm(1, 6)), (1, 6, 3, 4, 5)),
    (nn.InstanceNorm2d(3), (2, 3, 5, 4)),
    (with_affine(nn.InstanceNorm1d(3, affine=True)), (2, 3, 7)),
    (with_affine(nn.InstanceNorm3d(2, affine=True)), (1, 2, 3, 4, 5)),
    (with_affine(nn.LayerNorm((3, 5, 4))), (2, 3, 5, 4)),
    (nn.BatchNorm2d(3, track_running_stats=False), (1, 3, 5, 4)),
]


@pytest.mark.parametrize(("norm", "shape"), _NORMS, ids=lambda value: str(value))
def test_a_norm_over_maps_is_means_and_pointwise_operators(norm: nn.Module, shape: tuple[int, ...]) -> None:
    graph = captured(norm, 3 * torch.randn(shape) + 2)

    assert set(targets(graph)) <= {"view", "mean", "sub", "mul", "add", "rsqrt"}


@pytest.mark.parametrize(("norm", "shape"), _NORMS, ids=lambda value: str(value))
def test_every_operator_of_a_norm_is_split_by_rows(norm: nn.Module, shape: tuple[int, ...]) -> None:
    graph = capture(norm.eval(), (torch.randn(shape),))
    found = analysis_of(graph)
    labels = next(labels for labels in found.labellings if labels[graph.inputs[0]] == 2)

    large = [op for op in graph.operators if graph.specs[op.output].num_elements == torch.Size(shape).numel()]
    sums = [op for op in graph.operators if found.sums_along(op, labels)]

    assert all(op.output in labels for op in large)
    assert len(sums) == 2, "the mean, then the mean of centred squares"


def test_a_large_mean_does_not_drown_the_spread() -> None:
    """What a difference of mean squares would return here has no correct digit."""
    x = torch.randn(1, 4, 16, 16) + 3000.0
    graph = capture(nn.GroupNorm(2, 4), (x,))

    true = F.group_norm(x.double(), 2)
    error = (run(graph, (x,)) - true).abs().max()
    of_torch = (F.group_norm(x, 2) - true).abs().max()

    assert error <= 2 * of_torch + 1e-5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_statistics_of_half_precision_are_left_to_the_fused_kernel(dtype: torch.dtype) -> None:
    graph = captured(nn.GroupNorm(2, 4).to(dtype), torch.randn(1, 4, 5, 5).to(dtype))

    assert targets(graph) == ["group_norm"]


def test_norms_with_nothing_to_share_stay_whole() -> None:
    tokens = captured(nn.LayerNorm(6), torch.randn(1, 5, 6))
    one_row = captured(nn.GroupNorm(2, 4), torch.randn(1, 4, 1, 9))

    assert targets(tokens) == ["layer_norm"]
    assert targets(one_row) == ["group_norm"]


def test_running_statistics_of_an_instance_norm_are_folded_like_those_of_a_batch() -> None:
    norm = nn.InstanceNorm2d(4, affine=True, track_running_stats=True)
    with torch.no_grad():
        norm.get_buffer("running_mean").normal_()
        norm.get_buffer("running_var").uniform_(0.5, 2.0)

    assert targets(captured(nn.Sequential(nn.Conv2d(3, 4, 3), norm), torch.randn(2, 3, 6, 6))) == ["conv2d"]


def test_a_root_of_squares_over_maps_is_a_sum() -> None:
    over_maps = captured(Calls(lambda x: torch.linalg.vector_norm(x, dim=(1, 2))), torch.randn(2, 5, 4, 3))
    over_channels = captured(Calls(lambda x: F.normalize(x, dim=1)), torch.randn(2, 5, 4))

    assert targets(over_maps) == ["mul", "sum", "sqrt"]
    assert "linalg_vector_norm" in targets(over_channels)


@pytest.mark.parametrize("keepdim", [True, False])
@pytest.mark.parametrize("dims", [(2, 3), (-1, 1), ()])
def test_extrema_over_several_dims_take_the_first_of_them_last(dims: tuple[int, ...], keepdim: bool) -> None:
    x = torch.randn(2, 3, 5, 4)
    for function in (torch.amax, torch.amin):
        graph = captured(Calls(lambda x, f=function: f(x, dims, keepdim)), x, tolerance=0.0)
        assert len(graph.operators) == 2


@pytest.mark.parametrize("shape", [(2, 7), (2, 7, 5), (2, 7, 5, 6)])
@pytest.mark.parametrize("made", [1, 3, 5])
def test_adaptive_maxima_of_any_size_are_slices_and_extrema(shape: tuple[int, ...], made: int) -> None:
    spatial = len(shape) - 1
    pool = {1: F.adaptive_max_pool1d, 2: F.adaptive_max_pool2d, 3: F.adaptive_max_pool3d}[spatial]
    x = torch.randn(1, *shape)

    graph = captured(Calls(lambda x: pool(x, made)), x, tolerance=0.0)

    assert set(targets(graph)) <= {"slice", "amax", "cat"}


def test_an_average_over_one_window_is_a_global_one() -> None:
    x = torch.randn(1, 3, 5, 4)
    whole = captured(Calls(lambda x: F.avg_pool2d(x, 320, ceil_mode=True)), x)
    exact = captured(Calls(lambda x: F.avg_pool2d(x, (5, 4))), x)
    padded = captured(Calls(lambda x: F.avg_pool2d(x, (6, 4), padding=(1, 0))), x)
    divided = captured(Calls(lambda x: F.avg_pool2d(x, (5, 4), divisor_override=7)), x)

    assert targets(whole) == targets(exact) == ["adaptive_avg_pool2d"]
    assert targets(padded) == targets(divided) == ["avg_pool2d"]


def test_values_alone_of_a_maximum_are_an_extremum() -> None:
    graph = captured(Calls(lambda x: x.max(dim=1, keepdim=True).values), torch.randn(2, 3, 4), tolerance=0.0)

    assert targets(graph) == ["amax"]
