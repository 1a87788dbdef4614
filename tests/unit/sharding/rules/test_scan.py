"""Cumulative operators and sorting."""

from __future__ import annotations

from tests.unit.sharding.rules.operators import box, cut_of

SHAPES = {"x": (4, 9), "y": (4, 9)}


def test_a_cumulative_sum_makes_everything_before() -> None:
    made = cut_of("aten.cumsum.default", SHAPES, box((1, 2), (3, 5)), self="x", dim=1)

    assert made.region == box((1, 2), (0, 5))


def test_sorting_takes_its_dim_whole_and_top_k_returns_k() -> None:
    made = cut_of("aten.argsort.default", SHAPES, box((1, 2), (3, 5)), self="x", dim=1, descending=False)
    top = cut_of("aten.topk.default", {"x": (4, 9), "y": (4, 2)}, box((1, 2), (0, 1)), self="x", k=2, dim=1)

    assert made.region == box((1, 2), (0, 9))
    assert (top.region, top.needs["x"]) == (box((1, 2), (0, 2)), box((1, 2), (0, 9)))
