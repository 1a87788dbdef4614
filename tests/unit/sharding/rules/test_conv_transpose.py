"""Transposed convolutions: which input rows contribute to an output row."""

from __future__ import annotations

from edgeflow.sharding.region import Interval
from edgeflow.sharding.rules.conv_transpose import input_interval
from tests.unit.sharding.rules.operators import argument, box, cut_of, targets


def test_stride_two_halves_the_rows() -> None:
    rows = input_interval(Interval(4, 6), kernel=2, stride=2, padding=0, dilation=1, size=8)

    assert rows == Interval(2, 3)


def test_a_row_that_no_input_reaches_still_reads_one() -> None:
    rows = input_interval(Interval(1, 2), kernel=1, stride=2, padding=0, dilation=1, size=4)

    assert rows.length == 1


def test_rows_are_made_with_their_surroundings_and_cropped() -> None:
    shapes = {"x": (1, 4, 4), "w": (4, 6, 3), "y": (1, 6, 6)}
    made = cut_of(
        "aten.conv_transpose1d.default",
        shapes,
        box((0, 1), (1, 3), (2, 4)),
        input="x",
        weight="w",
        bias=None,
        stride=(1,),
        padding=(0,),
        output_padding=(0,),
        groups=1,
        dilation=(1,),
    )

    assert made.needs == {"x": box((0, 1), (0, 4), (0, 4)), "w": box((0, 4), (1, 3), (0, 3))}
    assert targets(made) == ["conv_transpose1d", "slice"]
    assert (argument(made, "start"), argument(made, "end")) == (2, 4)
