"""Adaptive average pooling: windows overlap where sizes do not divide."""

from __future__ import annotations

from edgeflow.sharding.region import Interval
from edgeflow.sharding.rules.adaptive import window
from tests.unit.sharding.rules.operators import argument, box, cut_of, targets


def test_seven_rows_to_three_are_windows_of_three() -> None:
    assert [window(index, size=7, made=3) for index in range(3)] == [
        Interval(0, 3), Interval(2, 5), Interval(4, 7),
    ]  # fmt: skip


def test_a_row_of_an_uneven_pool_is_a_product_with_its_window() -> None:
    shapes = {"x": (1, 2, 7, 4), "y": (1, 2, 3, 4)}
    made = cut_of(
        "aten.adaptive_avg_pool2d.default",
        shapes,
        box((0, 1), (0, 2), (0, 2), (0, 4)),
        self="x",
        output_size=(3, 4),
    )

    assert made.needs == {"x": box((0, 1), (0, 2), (0, 5), (0, 4))}
    assert argument(made, "output_size", step=0) == (5, 4)
    weights = argument(made, "other", step=2)
    assert weights.shape == (5, 2)
    assert weights.values[:2] == (1 / 3, 0.0)


def test_partial_means_are_weighted_by_their_share_of_rows() -> None:
    shapes = {"x": (1, 2, 8, 4), "y": (1, 2, 1, 1)}
    made = cut_of(
        "aten.adaptive_avg_pool2d.default", shapes, box((0, 1), (0, 2), (0, 1), (0, 1)), Interval(0, 2),
        self="x", output_size=(1, 1),
    )  # fmt: skip

    assert made.needs["x"][2] == Interval(0, 2)
    assert targets(made)[-1] == "mul"
    assert argument(made, "other") == 2 / 8
