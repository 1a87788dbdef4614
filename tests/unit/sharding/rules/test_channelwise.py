"""Operators with one parameter per channel."""

from __future__ import annotations

from tests.unit.sharding.rules.operators import argument, box, cut_of


def test_channels_of_a_prelu_read_their_own_slopes() -> None:
    shapes = {"x": (1, 6, 4), "w": (6,), "y": (1, 6, 4)}
    made = cut_of("aten.prelu.default", shapes, box((0, 1), (2, 5), (1, 3)), self="x", weight="w")

    assert made.needs == {"x": box((0, 1), (2, 5), (1, 3)), "w": box((2, 5))}


def test_one_slope_for_all_channels_is_read_by_each() -> None:
    shapes = {"x": (1, 6, 4), "w": (1,), "y": (1, 6, 4)}
    made = cut_of("aten.prelu.default", shapes, box((0, 1), (2, 5), (1, 3)), self="x", weight="w")

    assert made.needs["w"] == box((0, 1))


def test_a_sampled_row_reads_the_whole_image_and_its_own_points() -> None:
    shapes = {"x": (2, 3, 8, 8), "g": (2, 4, 5, 2), "y": (2, 3, 4, 5)}
    made = cut_of(
        "aten.grid_sampler.default", shapes, box((1, 2), (0, 2), (1, 3), (0, 5)), input="x", grid="g"
    )

    assert made.needs == {"x": box((1, 2), (0, 2), (0, 8), (0, 8)), "g": box((1, 2), (1, 3), (0, 5), (0, 2))}
    assert argument(made, "grid").tensor == "g"
