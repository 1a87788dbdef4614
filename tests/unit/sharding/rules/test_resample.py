"""Resampling and pixel shuffles."""

from __future__ import annotations

from tests.unit.sharding.rules.operators import box, cut_of


def test_rows_of_a_doubled_map_read_their_neighbours() -> None:
    shapes = {"x": (1, 1, 4, 3), "y": (1, 1, 8, 3)}
    made = cut_of(
        "aten.upsample_bilinear2d.vec", shapes, box((0, 1), (0, 1), (2, 4), (0, 3)), input="x",
        output_size=None, align_corners=False, scale_factors=(2.0, 1.0),
    )  # fmt: skip

    # Rows 2 and 3 lie at 0.75 and 1.25 of the input.
    assert made.needs["x"][2] == (0, 3)


def test_a_pixel_shuffle_makes_whole_blocks() -> None:
    shapes = {"x": (1, 8, 4, 4), "y": (1, 2, 8, 8)}
    made = cut_of(
        "aten.pixel_shuffle.default", shapes, box((0, 1), (1, 2), (3, 5), (0, 8)), self="x", upscale_factor=2
    )

    assert made.region == box((0, 1), (1, 2), (2, 6), (0, 8))
    assert made.needs == {"x": box((0, 1), (4, 8), (1, 3), (0, 4))}
