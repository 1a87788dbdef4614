"""Tensors made from numbers: positions alone decide."""

from __future__ import annotations

from tests.unit.sharding.rules.operators import argument, box, cut_of


def test_a_part_of_a_range_starts_later() -> None:
    made = cut_of("aten.arange.start_step", {"y": (5,)}, box((2, 4)), start=3, end=13, step=2)

    assert (argument(made, "start"), argument(made, "end"), argument(made, "step")) == (7, 10, 2)
    assert made.needs == {}


def test_a_range_of_fractions_is_made_whole() -> None:
    made = cut_of("aten.arange.start_step", {"y": (5,)}, box((2, 4)), start=0.0, end=1.0, step=0.2)

    assert made.region == box((0, 5))


def test_the_diagonal_of_a_triangle_moves_with_its_rows() -> None:
    made = cut_of("aten.tril.default", {"x": (6, 6), "y": (6, 6)}, box((2, 4), (1, 6)), self="x", diagonal=0)

    assert argument(made, "diagonal") == 1
