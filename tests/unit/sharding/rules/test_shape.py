"""Operators that only move elements."""

from __future__ import annotations

from tests.unit.sharding.rules.operators import argument, box, cut_of


def test_a_region_of_a_permutation_is_permuted_back() -> None:
    made = cut_of(
        "aten.permute.default",
        {"x": (2, 3, 4), "y": (4, 2, 3)},
        box((1, 3), (0, 2), (0, 1)),
        self="x",
        dims=(2, 0, 1),
    )

    assert made.needs == {"x": box((0, 2), (0, 1), (1, 3))}
    assert made.flops == 0


def test_every_second_element_reads_up_to_the_last_one() -> None:
    made = cut_of(
        "aten.slice.Tensor", {"x": (10,), "y": (4,)}, box((1, 3)), self="x", dim=0, start=2, end=10, step=2
    )

    assert made.needs == {"x": box((4, 7))}


def test_a_row_of_a_merged_dim_is_one_box_of_the_source() -> None:
    made = cut_of(
        "aten.reshape.default", {"x": (4, 6), "y": (2, 12)}, box((1, 2), (0, 12)), self="x", shape=(2, 12)
    )

    assert made.needs == {"x": box((2, 4), (0, 6))}


def test_repeated_elements_are_cropped_to_the_region() -> None:
    made = cut_of(
        "aten.repeat_interleave.self_int", {"x": (4,), "y": (12,)}, box((4, 8)), self="x", repeats=3, dim=0,
        output_size=None,
    )  # fmt: skip

    assert made.needs == {"x": box((1, 3))}
    assert (argument(made, "start"), argument(made, "end")) == (1, 5)
