"""Operators in other words: what they make stays as it is, and rules know the words."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.unit.graph.interpret import Calls, assert_same, captured, run, targets

aten = torch.ops.aten


def x_of(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def written(x: Tensor) -> Tensor:
    y = x.clone()
    y[:, 1:3] = 7.0
    y[0] = x[1] * 2
    y[:, :, -1] = x[:, :, 0]
    return y


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (lambda x: aten.native_layer_norm(x, [4], None, None, 1e-5)[0], ["layer_norm"]),
        (
            lambda x: aten._scaled_dot_product_flash_attention_for_cpu(x[None], x[None], x[None])[0],
            ["unsqueeze"] * 3 + ["scaled_dot_product_attention"],
        ),
        (lambda x: x.max(dim=1), ["amax", "argmax"]),
        (lambda x: x.min(dim=-1, keepdim=True).indices, ["argmin"]),
        (lambda x: (x > 0).type_as(x), ["gt", "_to_copy"]),
        (lambda x: x.tile(2, 1), ["repeat"]),
        (lambda x: torch.concat([x, x]), ["cat"]),
        (lambda x: torch.hstack([x, x]), ["cat"]),
        (lambda x: F.glu(x, dim=1), ["slice", "slice", "sigmoid", "mul"]),
        (lambda x: torch.outer(x[0, 0], x[1, 1]), ["select"] * 4 + ["reshape", "mul"]),
        (lambda x: torch.inner(x, x[0]), ["select", "linear"]),
        (lambda x: torch.tensordot(x, x, dims=([2], [2])), ["einsum"]),
        (lambda x: x @ x[0, 0], ["select", "select", "reshape", "matmul", "reshape"]),
        (lambda x: torch.dot(x[0, 0], x[1, 1]), ["select"] * 4 + ["reshape"] * 2 + ["matmul", "reshape"]),
        (lambda x: torch.mv(x[0], x[0, 0]), ["select"] * 3 + ["reshape", "matmul", "reshape"]),
        (lambda x: x + x.new_zeros(4), ["add"]),
        (lambda x: x + torch.full_like(x, 2.0), ["add"]),
        (lambda x: x[:, [-1]], ["slice"]),
        (lambda x: x[:, torch.arange(1, 4)], ["slice"]),
        (lambda x: x.index_select(2, torch.tensor([2, 3])), ["slice"]),
    ],
)
def test_a_form_is_made_of_words_that_rules_know(function: Any, names: list[str]) -> None:
    graph = captured(Calls(function), x_of(2, 6, 4))

    assert targets(graph) == names


def test_a_native_group_norm_is_a_group_norm() -> None:
    native = captured(
        Calls(lambda x: aten.native_group_norm(x, None, None, 2, 6, 4, 3, 1e-5)[0]), x_of(2, 6, 4)
    )
    plain = captured(Calls(lambda x: F.group_norm(x, 3, eps=1e-5)), x_of(2, 6, 4))

    assert targets(native) == targets(plain)


def test_writes_into_slices_are_joints_of_what_is_left_and_what_is_written() -> None:
    graph = captured(Calls(written), x_of(2, 6, 4))

    assert set(targets(graph)) <= {"clone", "slice", "select", "cat", "mul", "reshape", "expand", "_to_copy"}


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (lambda x: aten.native_layer_norm(x, [4], None, None, 1e-5), "native_layer_norm"),
        (lambda x: (x > 0).max(dim=1), "max"),
        (lambda x: x[:, [3, 1]], "index"),
        (lambda x: x[:, [2, 1, 0]], "index"),
        (lambda x: x[:, [5, 0]], "index"),
        (lambda x: torch.tensordot(x, x[:, :1], dims=([0, 1], [0, 1])), "tensordot"),
    ],
)
def test_what_the_words_do_not_fit_stays(function: Any, name: str) -> None:
    assert name in targets(captured(Calls(function), x_of(2, 6, 4)))


def test_the_first_of_equal_extremes_is_the_one_that_is_named() -> None:
    """And a NaN is the largest and the smallest of all."""
    x = torch.tensor([[1.0, 3.0, 3.0, 1.0], [2.0, float("nan"), 5.0, float("nan")], [0.0] * 4])
    module = Calls(lambda x: (*x.max(dim=1), *x.min(dim=1)))
    graph = captured(module, torch.rand(3, 4))

    values, places, least, where = run(graph, (x,))
    expected = module(x)
    assert values[0] == 3.0 and least[2] == 0.0
    assert torch.equal(places, expected[1])
    assert torch.equal(where, expected[3])
    assert_same([v.nan_to_num(9.0) for v in (values, least)], [expected[i].nan_to_num(9.0) for i in (0, 2)])


def test_a_shifted_copy_of_tokens_is_slices_and_a_constant() -> None:
    """As encoder-decoder models shift what they are to say to the right."""

    def shift(ids: Tensor) -> Tensor:
        shifted = ids.new_zeros(ids.shape)
        shifted[:, 1:] = ids[:, :-1].clone()
        shifted[:, 0] = 2
        return shifted

    graph = captured(Calls(shift), torch.arange(12).view(2, 6))

    assert set(targets(graph)) <= {"slice", "cat", "_to_copy", "clone", "expand"}, targets(graph)


def test_a_vector_of_weights_is_a_matrix_of_one_column() -> None:
    class Scores(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(4))

        def forward(self, x: Tensor) -> Tensor:
            return F.linear(x, self.weight)

    assert targets(captured(Scores(), x_of(2, 6, 4))) == ["matmul", "reshape"]
