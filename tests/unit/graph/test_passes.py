"""Passes make graphs smaller and leave their results alone; each test compares with the module itself."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from edgeflow.graph.capture import capture
from tests.unit.graph.interpret import Calls, captured, run, targets


def with_statistics(norm: Any) -> nn.Module:
    """A BatchNorm that has seen data: nothing of it is the identity."""
    with torch.no_grad():
        if norm.running_mean is not None:
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2.0)
        if norm.weight is not None:
            norm.weight.normal_()
            norm.bias.normal_()
    module: nn.Module = norm
    return module


# ------------------------------------------------------------------------------------------- BatchNorm


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm_folds_into_the_convolution_before_it(bias: bool, affine: bool) -> None:
    norm = with_statistics(nn.BatchNorm2d(4, affine=affine))
    graph = captured(nn.Sequential(nn.Conv2d(3, 4, 3, bias=bias), norm, nn.ReLU()), torch.randn(2, 3, 6, 6))

    assert targets(graph) == ["conv2d", "relu"]


@pytest.mark.parametrize("dims", [1, 3])
def test_batch_norm_folds_in_one_and_three_dims(dims: int) -> None:
    conv = {1: nn.Conv1d, 3: nn.Conv3d}[dims](3, 4, 3, groups=1)
    norm = with_statistics({1: nn.BatchNorm1d, 3: nn.BatchNorm3d}[dims](4))

    assert targets(captured(nn.Sequential(conv, norm), torch.randn(2, 3, *[5] * dims))) == [f"conv{dims}d"]


def test_two_batch_norms_fold_one_after_the_other() -> None:
    norms = [with_statistics(nn.BatchNorm2d(4)) for _ in range(2)]
    conv = nn.Conv2d(4, 4, 3, groups=4, padding="same")
    graph = captured(nn.Sequential(conv, *norms), torch.randn(1, 4, 5, 5))

    assert targets(graph) == ["conv2d"]


def test_batch_norm_before_a_convolution_is_a_product_and_a_sum() -> None:
    module = nn.Sequential(with_statistics(nn.BatchNorm2d(3)), nn.Conv2d(3, 4, 3))

    assert targets(captured(module, torch.randn(1, 3, 5, 5))) == ["mul", "add", "conv2d"]


class Branch(nn.Module):
    """A convolution that is read beside its norm as well."""

    def __init__(self, *, returns: bool) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), with_statistics(nn.BatchNorm2d(4))
        self.returns = returns

    def forward(self, x: torch.Tensor) -> Any:
        y = self.conv(x)
        return (self.norm(y), y) if self.returns else self.norm(y) + y


@pytest.mark.parametrize("returns", [True, False])
def test_batch_norm_stays_apart_from_a_convolution_that_others_read(returns: bool) -> None:
    graph = captured(Branch(returns=returns), torch.randn(1, 3, 5, 5))

    assert targets(graph)[:3] == ["conv2d", "mul", "add"]


def test_batch_norm_over_an_unbatched_convolution_is_not_folded() -> None:
    """Its channels are rows of the convolution's output then, and there happen to be as many."""
    module = nn.Sequential(nn.Conv2d(3, 4, 1), with_statistics(nn.BatchNorm1d(4)))

    assert targets(captured(module, torch.randn(3, 4, 5))) == ["conv2d", "mul", "add"]


def test_batch_norm_after_a_linear_layer_is_a_product_and_a_sum() -> None:
    module = nn.Sequential(nn.Linear(3, 4), with_statistics(nn.BatchNorm1d(4)))

    assert targets(captured(module, torch.randn(2, 3))) == ["linear", "mul", "add"]
    assert targets(captured(module[1], torch.randn(2, 4, 7))) == ["mul", "add"]


def test_batch_norm_without_statistics_stays_as_it_is() -> None:
    """It normalises by the batch at hand even in evaluation."""
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False))

    assert len(targets(captured(module, torch.randn(2, 3, 5, 5)))) == 2


def test_statistics_that_come_with_the_request_stay_as_they_are() -> None:
    def function(x: torch.Tensor, mean: torch.Tensor, variance: torch.Tensor) -> torch.Tensor:
        return F.batch_norm(x, mean, variance)

    graph = captured(Calls(function), torch.randn(2, 3, 4), torch.randn(3), torch.rand(3) + 0.5)

    assert targets(graph) == ["_native_batch_norm_legit_no_training"]


def test_a_kernel_that_comes_with_the_request_is_not_folded_into() -> None:
    norm = with_statistics(nn.BatchNorm2d(4))

    class Dynamic(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = norm

        def forward(self, x: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.norm(F.conv2d(x, kernel))
            return out

    graph = captured(Dynamic(), torch.randn(1, 3, 5, 5), torch.randn(4, 3, 3, 3))

    assert targets(graph) == ["conv2d", "mul", "add"]


def test_weights_of_the_module_are_left_alone() -> None:
    conv, norm = nn.Conv2d(3, 4, 3), with_statistics(nn.BatchNorm2d(4))
    before = conv.weight.detach().clone()
    captured(nn.Sequential(conv, norm), torch.randn(1, 3, 5, 5))

    assert torch.equal(conv.weight, before)


# -------------------------------------------------------------------------- constants and identities


def test_what_depends_on_weights_alone_is_evaluated() -> None:
    class Table(nn.Module):
        index: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Parameter(torch.randn(4, 6))
            self.register_buffer("index", torch.tensor([[0, 1], [2, 3]]))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            table = self.table[self.index.view(-1)].t().contiguous() * 2 + torch.arange(4)
            return x + table.softmax(-1)

    graph = captured(Table(), torch.randn(6, 4))

    assert targets(graph) == ["add"]
    assert len(graph.weights) == 1


def test_a_constant_that_would_fill_the_memory_is_computed_instead() -> None:
    graph = capture(Calls(lambda x: x + torch.ones(1, 5000, 5000)), (torch.zeros(1),))

    assert not graph.weights
    assert targets(graph) == ["ones", "add"]


@pytest.mark.parametrize(
    "module",
    [
        nn.Dropout(),
        nn.Dropout2d(),
        nn.AlphaDropout(),
        nn.FeatureAlphaDropout(),
        nn.Identity(),
        Calls(lambda x: x.clone().contiguous().detach()),
        Calls(lambda x: x.float().to("cpu").type_as(x)),
        Calls(lambda x: x.view(x.shape).reshape(x.shape).expand(x.shape)[:, :]),
        Calls(lambda x: F.dropout(x, 0.0, training=True)),
    ],
    ids="dropout dropout2d alpha feature-alpha identity clone cast view nothing-dropped".split(),
)
def test_operators_that_return_their_input_are_dropped(module: nn.Module) -> None:
    graph = captured(nn.Sequential(module, nn.ReLU()), torch.randn(2, 4, 3, 3))

    assert targets(graph) == ["relu"]


def test_a_cast_to_another_dtype_stays() -> None:
    assert targets(captured(Calls(lambda x: x.double()), torch.randn(3))) == ["_to_copy"]


def test_operators_that_no_output_needs_are_dropped() -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        x.exp().sum()
        return x + 1

    graph = captured(Calls(function), torch.randn(3))

    assert targets(graph) == ["add"]
    assert set(graph.specs) == {*graph.inputs, *graph.outputs}


def test_outputs_that_only_dead_operators_read_lose_their_name() -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        values, indices = x.topk(2)
        values.exp()
        return indices

    (op,) = captured(Calls(function), torch.randn(3, 5)).operators

    assert op.outputs[0] == ""


# --------------------------------------------------------------------------------- one way to say it


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (lambda x: x.split(2, -1), {"slice"}),
        (lambda x: x.split([1, 4], dim=1), {"slice"}),
        (lambda x: x.chunk(3, 1), {"slice"}),
        (lambda x: x.chunk(2, -1)[1], {"slice"}),
        (lambda x: x.tensor_split(3, 1), {"slice"}),
        (lambda x: x.narrow(1, 1, 3), {"slice"}),
        (lambda x: x.unbind(0), {"select"}),
        (lambda x: x.unbind(-1)[1::2], {"select"}),
    ],
    ids="split sizes chunk one-chunk tensor_split narrow unbind some".split(),
)
def test_splits_are_slices(function: Any, names: set[str]) -> None:
    """So a device that makes one half does not read the other."""
    graph = captured(Calls(function), torch.randn(3, 5))

    assert set(targets(graph)) == names
    assert all(len(op.outputs) == 1 for op in graph.operators)


@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("dilation", [1, 2, 3])
def test_same_padding_is_written_as_numbers(kernel: int, dilation: int) -> None:
    conv = nn.Conv2d(2, 3, (kernel, 3), padding="same", dilation=dilation)
    graph = captured(conv, torch.randn(1, 2, 9, 9))

    is_lopsided = dilation * (kernel - 1) % 2 == 1
    assert targets(graph) == (["constant_pad_nd"] if is_lopsided else []) + ["conv2d"]


@pytest.mark.parametrize("dims", [1, 3])
def test_same_padding_in_other_dims(dims: int) -> None:
    conv = {1: nn.Conv1d, 3: nn.Conv3d}[dims](2, 3, 4, padding="same")

    assert targets(captured(conv, torch.randn(1, 2, *[6] * dims))) == ["constant_pad_nd", f"conv{dims}d"]
    assert targets(captured(conv, torch.randn(2, *[6] * dims))) == ["constant_pad_nd", f"conv{dims}d"]


def test_valid_padding_is_none() -> None:
    (op,) = captured(nn.Conv2d(2, 3, 4, padding="valid"), torch.randn(1, 2, 9, 9)).operators

    assert op.arg("padding") == (0, 0)


@pytest.mark.parametrize("value", [None, 0.0, 1.5, float("-inf")])
def test_constant_padding_is_one_operator_however_it_is_written(value: float | None) -> None:
    graph = captured(Calls(lambda x: F.pad(x, (1, 2, -1, 0), value=value)), torch.randn(1, 2, 4, 4))

    assert targets(graph) == ["constant_pad_nd"]


def test_padding_of_integers_and_of_other_modes() -> None:
    ints = captured(Calls(lambda x: F.pad(x, (1, 2))), torch.arange(6).view(2, 3))
    reflected = captured(Calls(lambda x: F.pad(x, (1, 1, 1, 1), mode="reflect")), torch.randn(1, 2, 4, 4))

    assert targets(ints) == ["constant_pad_nd"]
    assert "constant_pad_nd" not in targets(reflected)


def test_max_pooling_that_returns_no_indices_is_the_plain_one() -> None:
    function = Calls(lambda x: F.max_pool2d(x, 2, return_indices=True)[0])
    graph = captured(function, torch.randn(1, 2, 6, 6))

    assert targets(graph) == ["max_pool2d"]


def test_a_chain_of_everything_agrees_with_the_module() -> None:
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding="same", bias=False),
        with_statistics(nn.BatchNorm2d(8)),
        nn.ReLU(inplace=True),
        nn.Dropout2d(0.3),
        nn.MaxPool2d(3, 2, padding=1, ceil_mode=True),
        nn.Conv2d(8, 8, 4, padding="same", groups=4),
        with_statistics(nn.BatchNorm2d(8)),
        nn.Hardswish(inplace=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        with_statistics(nn.BatchNorm1d(8)),
        nn.Linear(8, 5),
        nn.Softmax(-1),
    ).eval()
    x = torch.randn(2, 3, 11, 9)
    graph = captured(module, x)

    assert "batch_norm" not in " ".join(targets(graph))
    again = torch.randn(2, 3, 11, 9)
    torch.testing.assert_close(run(graph, (again,)), module(again).detach(), rtol=1e-5, atol=1e-5)
