"""Chains of views: what part of the source they show, and in which order."""

from __future__ import annotations

from edgeflow.graph.ir import Operator, TensorRef, Value
from edgeflow.graph.views import Chain, is_view, permutation, write


def operator(target: str, **arguments: Value) -> Operator:
    return Operator(
        name="y", target=target, arguments=(("self", TensorRef("x")), *arguments.items()), outputs=("y",)
    )


def test_heads_of_a_projection_are_factors_of_its_features() -> None:
    chain = Chain.of((7, 12)).reshaped((7, 3, 4))

    assert chain is not None
    assert chain.factors == ((7,), (3, 4))
    assert chain.permuted((1, 0, 2)).order == (1, 0, 2)


def test_an_interval_of_the_outer_factor_is_a_box_and_of_the_inner_one_is_not() -> None:
    chain = Chain.of((12,)).reshaped((3, 4))

    assert chain is not None
    outer = chain.narrowed(0, 1, 3)
    assert outer is not None
    assert (outer.bounds, outer.shape) == (((4, 12),), (2, 4))
    assert chain.narrowed(1, 0, 2) is None


def test_a_reshape_that_splits_a_factor_unevenly_is_not_followed() -> None:
    assert Chain.of((6, 6)).permuted((1, 0)).reshaped((4, 9)) is None


def test_a_selection_drops_its_dim() -> None:
    chain = Chain.of((4, 5)).after(operator("aten.select.int", dim=0, index=-1), (5,))

    assert chain is not None
    assert (chain.bounds, chain.shape) == (((3, 4), (0, 5)), (5,))


def test_transposes_and_permutes_are_orders_of_dims() -> None:
    assert permutation(operator("aten.transpose.int", dim0=0, dim1=-1), 3) == (2, 1, 0)
    assert permutation(operator("aten.permute.default", dims=(-1, 0, 1)), 3) == (2, 0, 1)
    assert not is_view(operator("aten.relu.default"))


def test_a_chain_is_written_as_a_reshape_a_permutation_and_a_reshape() -> None:
    chain = Chain.of((7, 12)).reshaped((7, 3, 4))
    assert chain is not None
    made = write(chain.permuted((1, 0, 2)), "x", "y", shape=(3, 28), dtype="float32")

    assert [op.target.split(".")[1] for op, _ in made] == ["reshape", "permute", "reshape"]
    assert [spec.shape for _, spec in made] == [(7, 3, 4), (3, 7, 4), (3, 28)]
    assert made[-1][0].output == "y"
