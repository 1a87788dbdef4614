"""Reductions: kept dims are cut, means and sums contracted."""

from __future__ import annotations

import pytest

from edgeflow.errors import InvalidPlanError
from edgeflow.sharding.region import Interval
from tests.unit.sharding.rules.operators import argument, box, cut_of

SHAPES = {"x": (2, 8, 5), "y": (2, 5)}


def test_kept_dims_are_cut_and_reduced_ones_read_whole() -> None:
    made = cut_of("aten.amax.default", SHAPES, box((0, 1), (1, 3)), self="x", dim=(1,), keepdim=False)

    assert made.needs == {"x": box((0, 1), (0, 8), (1, 3))}


def test_a_partial_mean_is_weighted_by_its_share() -> None:
    made = cut_of(
        "aten.mean.dim", SHAPES, box((0, 2), (0, 5)), Interval(6, 8), self="x", dim=(1,), keepdim=False
    )

    assert made.needs == {"x": box((0, 2), (6, 8), (0, 5))}
    assert argument(made, "other") == 0.25


def test_an_extremum_has_no_partial_sums() -> None:
    with pytest.raises(InvalidPlanError, match="partial sums"):
        cut_of(
            "aten.amax.default",
            SHAPES,
            box((0, 2), (0, 5)),
            Interval(0, 1),
            self="x",
            dim=(1,),
            keepdim=False,
        )
