"""Boundaries of one layer, by hand: rows of one second, no transfers unless said."""

from __future__ import annotations

import numpy as np
import pytest

from edgeflow.planner.estimates.strips import Reads, Strips
from edgeflow.planner.search.boundaries import Bounds, Layer


def layer(
    *row_s: float,
    size: int,
    begin_s: list[float] | None = None,
    wanted: Bounds | None = None,
    late_s: float = 0,
) -> Layer:
    """Devices that take ``row_s`` per row; what row 6 and later rows read arrives at ``late_s``."""
    seconds = np.array(row_s)[:, None] * np.arange(size + 1)
    rows = np.arange(size)
    strips = Strips(
        size=size, reads=(Reads("x", size, rows, rows + 1),), whole=(), seconds=seconds, flops=size
    )
    return Layer(
        strips,
        seconds=seconds,
        begin_s=begin_s or [0.0] * len(row_s),
        wanted=wanted,
        arrival_s=lambda device, tensor, first, stop: late_s if stop > 6 else 0.0,
    )


@pytest.mark.parametrize(
    ("row_s", "bounds"), [((1.0, 2.0), (0, 6, 9)), ((1.0, 1.0, 1.0), (0, 3, 6, 9)), ((10.0, 1.0), (0, 0, 9))]
)
def test_rows_are_in_proportion_to_speed(row_s: tuple[float, ...], bounds: Bounds) -> None:
    assert layer(*row_s, size=9).divide() == bounds


def test_a_device_that_is_free_later_gets_less() -> None:
    """Seven rows on the first device; two rows of two seconds from second 3 on: both are done at 7."""
    found = layer(1.0, 2.0, size=9, begin_s=[0.0, 3.0])

    assert found.divide() == (0, 7, 9)
    assert found.finish_s((0, 7, 9)) == [7.0, 7.0]


def test_rows_stay_where_they_are_if_that_is_as_good() -> None:
    """Nine rows on two equal devices take 5 s as 5 + 4 and as 4 + 5."""
    assert layer(1.0, 1.0, size=9).divide() == (0, 5, 9)
    assert layer(1.0, 1.0, size=9, wanted=(0, 4, 9)).divide() == (0, 4, 9)
    assert layer(1.0, 1.0, size=9, wanted=(0, 2, 9)).divide() == (0, 4, 9)


def test_a_strip_waits_for_what_it_reads() -> None:
    """The last rows begin at second 4, on the second device: 4 + 3 s, while the first does 6 rows in time."""
    found = layer(1.0, 1.0, size=9, late_s=4.0)

    assert found.finish_s((0, 6, 9)) == [6.0, 7.0]
    assert max(found.finish_s(found.divide())) == 7.0
