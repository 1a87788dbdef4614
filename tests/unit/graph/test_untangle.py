"""Views and fused projections are written so that heads are boxes; results stay as they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgeflow.graph.ir import ModelGraph, Operator, TensorRef
from edgeflow.graph.views import Chain, is_view, write
from edgeflow.planner.analysis import analysis_of
from tests.unit.graph.interpret import Calls, captured, targets


def groups(graph: ModelGraph) -> list[tuple[int, int]]:
    return [(g.size, g.multiple) for g in analysis_of(graph).groups if len(g.operators) > 1]


# ------------------------------------------------------------------------------------------- chains


def test_a_random_chain_of_views_is_what_its_three_operators_make(rng: np.random.Generator) -> None:
    """Against numpy: reshapes, permutations, slices and selections in any order."""
    num_written = 0
    for _ in range(400):
        x = np.arange(2 * 6 * 4 * 3).reshape(d_shape(rng))
        chain, seen = Chain.of(x.shape), x
        for _ in range(int(rng.integers(1, 7))):
            after, result = _step(rng, chain, seen)
            if after is None:
                continue
            chain, seen = after, result
        assert chain.shape == seen.shape
        box = x[tuple(slice(start, stop) for start, stop in chain.bounds)]
        made = write(chain, "x", "y", shape=chain.shape, dtype="int64")
        for op, spec in made:
            (_, value), (_, argument) = op.arguments
            assert isinstance(value, TensorRef)
            box = box.reshape(argument) if "reshape" in op.target else box.transpose(argument)
            assert box.shape == spec.shape
        num_written += len(made) == 3
        assert made[-1][0].output == "y"
        assert (box == seen).all()
    assert num_written > 20


def d_shape(rng: np.random.Generator) -> tuple[int, ...]:
    options = [(2, 6, 12), (144,), (12, 1, 12), (4, 6, 3, 2), (2, 3, 2, 4, 3), (24, 6)]
    return options[int(rng.integers(len(options)))]


def _step(rng: np.random.Generator, chain: Chain, seen: Any) -> tuple[Chain | None, Any]:
    """A random view of what is seen, as the chain knows it and as numpy does."""
    kind, ndim = int(rng.integers(4)), seen.ndim
    if kind == 0:
        order = tuple(int(dim) for dim in rng.permutation(ndim))
        return chain.permuted(order), seen.transpose(order)
    if kind == 1:
        factors = [int(f) for size in seen.shape for f in _primes(size)]
        cuts = sorted(int(c) for c in rng.integers(0, len(factors) + 1, size=2))
        shape = tuple(int(np.prod(part)) for part in np.split(factors, cuts))
        return chain.reshaped(shape), seen.reshape(shape)
    if not ndim:
        return None, seen
    dim = int(rng.integers(ndim))
    start = int(rng.integers(seen.shape[dim]))
    if kind == 2:
        op = _operator("aten.select.int", dim=dim - ndim, index=start - seen.shape[dim])
        result = seen.take(start, axis=dim)
    else:
        stop = int(rng.integers(start + 1, seen.shape[dim] + 1))
        op = _operator("aten.slice.Tensor", dim=dim, start=start, end=stop, step=1)
        result = seen[tuple(slice(start, stop) if d == dim else slice(None) for d in range(ndim))]
    return chain.after(op, result.shape), result


def _operator(target: str, **arguments: Any) -> Operator:
    return Operator(
        name="v", target=target, arguments=(("self", TensorRef("x")), *arguments.items()), outputs=("v",)
    )


def _primes(size: int) -> list[int]:
    return next(([p, *_primes(size // p)] for p in range(2, size + 1) if size % p == 0), [])


def test_a_reshape_that_tears_a_factor_unevenly_is_no_chain() -> None:
    assert Chain.of((6, 4)).permuted((1, 0)).reshaped((3, 8)) is None
    assert Chain.of((6,)).reshaped((4, 2)) is None


def test_inner_elements_are_no_box_of_the_source() -> None:
    heads = Chain.of((2, 12)).reshaped((2, 3, 4))
    assert heads is not None
    assert heads.narrowed(2, 0, 2) is None
    features = heads.narrowed(1, 1, 3)
    assert features is not None
    assert features.bounds == ((0, 2), (4, 12))
    assert not is_view(_operator("aten.expand.default"))


# -------------------------------------------------------------------------------------------- views


def test_batch_and_heads_that_are_merged_on_the_way_stay_apart() -> None:
    def function(x_LNE: Tensor) -> Tensor:
        return x_LNE.view(5, 2 * 3, 4).transpose(0, 1).view(2, 3, 5, 4).sigmoid()

    graph = captured(Calls(function), torch.randn(5, 2, 12))

    assert targets(graph) == ["reshape", "permute", "sigmoid"]
    assert graph.specs[graph.operators[0].output].shape == (5, 2, 3, 4)


def test_views_that_merge_only_or_take_apart_only_are_left_alone() -> None:
    captured_merge = captured(
        Calls(lambda x: x.transpose(0, 1).reshape(6, 4).sigmoid()), torch.randn(2, 3, 4)
    )
    captured_split = captured(Calls(lambda x: x.view(2, 3, 4).transpose(0, 1).sigmoid()), torch.randn(6, 4))

    assert targets(captured_merge) == ["transpose", "_unsafe_view", "sigmoid"]
    assert targets(captured_split) == ["view", "transpose", "sigmoid"]


def test_the_encoder_layers_of_torch_have_their_heads_as_a_group() -> None:
    """Batches of two: rows of tokens, merged with heads on the way to attention and apart again."""
    layer = nn.TransformerEncoderLayer(24, 3, dim_feedforward=40, batch_first=True)
    graph = captured(layer, torch.randn(2, 5, 24))

    assert groups(graph) == [(24, 8), (40, 1)]


# -------------------------------------------------------------------------------- fused projections


class Fused(nn.Module):
    """Queries, keys and values of one product, taken out of it in one of the usual ways."""

    def __init__(self, how: str, *, heads: int = 3) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(24, 72), nn.Linear(24, 24)
        self.how, self.heads = how, heads

    def forward(self, x_NLD: Tensor) -> Tensor:
        n, length, _ = x_NLD.shape
        y, h = self.qkv(x_NLD), self.heads
        if self.how == "chunk":
            parts = [part.view(n, length, h, -1).transpose(1, 2) for part in y.chunk(3, dim=-1)]
        elif self.how == "unbind":
            parts = list(y.view(n, length, 3, h, -1).permute(2, 0, 3, 1, 4).unbind(0))
        elif self.how == "index":
            y = y.view(n, length, 3, h, -1).transpose(1, 3)
            parts = [y[:, :, 0], y[:, :, 1], y[:, :, 2]]
            parts = [part.transpose(1, 1) for part in parts]
        else:  # each head's own queries, keys and values side by side
            parts = list(y.view(n, length, h, -1).transpose(1, 2).chunk(3, dim=-1))
        q, k, v = parts
        o_NLD: Tensor = self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return o_NLD


@pytest.mark.parametrize("how", ["chunk", "unbind", "index", "by-head"])
@pytest.mark.parametrize("batch", [1, 2])
def test_fused_projections_are_groups_of_whole_heads(how: str, batch: int) -> None:
    graph = captured(Fused(how), torch.randn(batch, 5, 24))

    assert groups(graph) == [(24, 8)]
    assert targets(graph).count("linear") == (2 if how == "by-head" else 4)


def test_slices_of_fused_weights_are_what_is_stored() -> None:
    graph = captured(Fused("chunk"), torch.randn(1, 5, 24))

    assert graph.weight_bytes == 4 * (24 * 72 + 72 + 24 * 24 + 24)


@pytest.mark.parametrize(
    ("module", "x"),
    [
        (nn.Linear(6, 8), torch.randn(2, 3, 6)),
        (nn.Conv2d(6, 8, 1), torch.randn(2, 6, 3, 3)),
        (nn.Conv1d(6, 8, 3, bias=False), torch.randn(2, 6, 5)),
    ],
    ids=["linear", "conv2d", "conv1d"],
)
def test_gates_and_values_of_one_product_become_two(module: nn.Module, x: Tensor) -> None:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.both = module

        def forward(self, x: Tensor) -> Tensor:
            gate, value = self.both(x).chunk(2, dim=-1 if isinstance(module, nn.Linear) else 1)
            return F.silu(gate) * value

    graph = captured(Gated(), x)

    name = type(module).__name__.lower()
    assert sorted(targets(graph)) == sorted([name, name, "silu", "mul"] + (["reshape"] * 2))


class AddedProduct(nn.Module):
    """Weights the other way around, as GPT-2 holds them."""

    def __init__(self, *, beta: int = 1) -> None:
        super().__init__()
        self.weight, self.bias, self.beta = (
            nn.Parameter(torch.randn(6, 8)),
            nn.Parameter(torch.randn(8)),
            beta,
        )

    def forward(self, x: Tensor) -> Tensor:
        first, second = torch.addmm(self.bias, x, self.weight, beta=self.beta).split([3, 5], dim=-1)
        return first.sigmoid().sum() + second.tanh()


def test_added_products_are_cut_along_their_columns() -> None:
    assert targets(captured(AddedProduct(), torch.randn(4, 6))).count("addmm") == 2
    assert targets(captured(AddedProduct(beta=2), torch.randn(4, 6))).count("addmm") == 1


@pytest.mark.parametrize(
    "function",
    [
        lambda y: y[..., :4] * y[..., 2:6],
        lambda y: y[..., :4] + y.sum(-1, keepdim=True),
        lambda y: (y[..., :4] * 2, y),
        lambda y: y[..., ::2] * 2,
        lambda y: y[:1, :4] * 2,
        lambda y: y.sigmoid()[..., :4],
    ],
    ids=["overlap", "whole", "output", "steps", "rows", "later"],
)
def test_products_whose_readers_take_no_intervals_stay_one(function: Any) -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(6, 8)

        def forward(self, x: Tensor) -> Any:
            return function(self.linear(x))

    assert targets(captured(Model(), torch.randn(4, 6))).count("linear") == 1


def test_a_shared_fused_weight_is_sliced_once() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(6, 12)

        def forward(self, x: Tensor) -> Tensor:
            for _ in range(2):
                gate, value = self.linear(x).chunk(2, dim=-1)
                x = gate.sigmoid() * value
            return x

    graph = captured(Twice(), torch.randn(2, 6))

    assert targets(graph).count("linear") == 4
    assert graph.weight_bytes == 4 * (6 * 12 + 12)
