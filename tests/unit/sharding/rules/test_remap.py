"""Maps of positions: the slice is the hull of what is read."""

from __future__ import annotations

from tests.unit.sharding.rules.operators import argument, box, cut_of, targets


def test_the_first_rows_of_a_flip_are_the_last_ones_backwards() -> None:
    made = cut_of("aten.flip.default", {"x": (8, 2), "y": (8, 2)}, box((0, 3), (0, 2)), self="x", dims=(0,))

    assert made.needs == {"x": box((5, 8), (0, 2))}
    assert argument(made, "index").values == (2, 1, 0)


def test_consecutive_positions_need_no_selection() -> None:
    made = cut_of("aten.roll.default", {"x": (8,), "y": (8,)}, box((3, 6)), self="x", shifts=(2,), dims=(0,))

    assert made.needs == {"x": box((1, 4))}
    assert targets(made) == ["expand"]


def test_reflecting_padding_reads_the_rows_that_it_mirrors() -> None:
    made = cut_of(
        "aten.reflection_pad1d.default", {"x": (1, 1, 6), "y": (1, 1, 10)}, box((0, 1), (0, 1), (0, 4)),
        self="x", padding=(2, 2),
    )  # fmt: skip

    assert made.needs["x"][2] == (0, 3)
    assert argument(made, "index").values == (2, 1, 0, 1)
