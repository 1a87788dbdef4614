"""Einsum: cut along letters of the result, contracted over a summed one."""

from __future__ import annotations

import pytest

from edgeflow.errors import InvalidPlanError
from edgeflow.graph.ir import TensorRef
from edgeflow.sharding.region import Interval, Region
from tests.unit.sharding.rules.operators import box, cut_of

SHAPES = {"a": (4, 6), "b": (6, 8), "y": (4, 8)}
OPERANDS = (TensorRef("a"), TensorRef("b"))


def test_a_letter_of_the_result_is_cut_where_it_stands() -> None:
    made = cut_of(
        "aten.einsum.default", SHAPES, box((1, 3), (0, 8)), equation="ij,jk->ik", tensors=OPERANDS, path=None
    )

    assert made.needs == {"a": box((1, 3), (0, 6)), "b": box((0, 6), (0, 8))}
    assert made.flops == 2 * 2 * 8 * 6


def test_a_summed_letter_is_contracted_in_all_operands() -> None:
    made = cut_of(
        "aten.einsum.default", SHAPES, box((0, 4), (0, 8)), Interval(2, 5),
        equation="ij,jk->ik", tensors=OPERANDS, path=None,
    )  # fmt: skip

    assert made.needs == {"a": box((0, 4), (2, 5)), "b": box((2, 5), (0, 8))}


def test_a_diagonal_is_made_whole_and_has_no_partial_sums() -> None:
    shapes = {"a": (4, 4), "y": (4,)}
    arguments = {"equation": "ii->i", "tensors": (TensorRef("a"),), "path": None}

    assert cut_of("aten.einsum.default", shapes, box((1, 2)), **arguments).region == Region.full((4,))
    with pytest.raises(InvalidPlanError, match="partial sums"):
        cut_of("aten.einsum.default", shapes, box((1, 2)), Interval(0, 1), **arguments)
