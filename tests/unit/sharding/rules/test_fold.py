"""Windows as a dim of their own."""

from __future__ import annotations

from tests.unit.sharding.rules.operators import box, cut_of


def test_columns_are_widened_to_whole_rows_of_positions() -> None:
    shapes = {"x": (1, 2, 6, 4), "y": (1, 8, 15)}
    made = cut_of(
        "aten.im2col.default", shapes, box((0, 1), (0, 4), (4, 8)), self="x", kernel_size=(2, 2),
        dilation=(1, 1), padding=(0, 0), stride=(1, 1),
    )  # fmt: skip

    assert made.region == box((0, 1), (0, 4), (3, 9))
    assert made.needs == {"x": box((0, 1), (0, 1), (1, 4), (0, 4))}


def test_windows_of_a_dim_read_from_the_first_to_the_last_element() -> None:
    shapes = {"x": (10, 3), "y": (4, 3, 4)}
    made = cut_of(
        "aten.unfold.default", shapes, box((1, 3), (0, 3), (1, 3)), self="x", dimension=0, size=4, step=2
    )

    assert made.needs == {"x": box((3, 7), (0, 3))}
