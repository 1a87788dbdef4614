"""Sliding windows: what they read, counted tap by tap."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeflow.sharding.cut import Result, Slice
from edgeflow.sharding.region import Interval, Region
from edgeflow.sharding.rules.window import Window, input_window, padded


@given(
    output=st.tuples(st.integers(0, 9), st.integers(1, 6)),
    kernel=st.integers(1, 5),
    stride=st.integers(1, 4),
    padding=st.integers(0, 7),
    dilation=st.integers(1, 3),
    size=st.integers(1, 12),
)
def test_a_window_holds_every_tap_and_pads_the_rest(
    output: tuple[int, int], kernel: int, stride: int, padding: int, dilation: int, size: int
) -> None:
    start, length = output
    wanted = Interval(start, start + length)
    window = input_window(wanted, kernel=kernel, stride=stride, padding=padding, dilation=dilation, size=size)
    taps = {index * stride - padding + dilation * tap for index in range(*wanted) for tap in range(kernel)}
    read = {tap for tap in taps if 0 <= tap < size}

    assert window.interval.length > 0
    assert Interval(0, size).contains(window.interval)
    assert read <= set(range(*window.interval))
    assert window.before + window.interval.length + window.after == max(taps) - min(taps) + 1
    assert min(window.before, window.after) >= (0 if read else -1)
    if window.before >= 0 and window.after >= 0:
        assert window.interval.start - window.before == min(taps)


def test_padding_is_not_read() -> None:
    """The first rows of a padded convolution need no row that does not exist."""
    window = input_window(Interval(0, 4), kernel=7, stride=2, padding=3, dilation=1, size=224)

    assert window == Window(Interval(0, 10), before=3, after=0)


def test_a_window_in_the_padding_reads_one_element_and_crops_it() -> None:
    before = input_window(Interval(0, 1), kernel=2, stride=1, padding=5, dilation=1, size=3)
    after = input_window(Interval(10, 11), kernel=2, stride=1, padding=5, dilation=1, size=3)

    assert before == Window(Interval(0, 1), before=2, after=-1)
    assert after == Window(Interval(2, 3), before=-1, after=2)


def test_nothing_is_not_a_window() -> None:
    with pytest.raises(ValueError, match="no output elements"):
        input_window(Interval(3, 3), kernel=3, stride=1, padding=1, dilation=1, size=8)


def test_only_lopsided_padding_costs_a_copy() -> None:
    """Rows are padded above only, columns on both sides: the operator keeps the columns' padding."""
    source = Slice("x", Region.full((1, 1, 5, 8)))
    rows, columns = Window(Interval(0, 5), 1, 0), Window(Interval(0, 8), 1, 1)
    steps, operand, own = padded(source, (rows, columns), value=0.0)

    assert operand == Result(0)
    assert own == (0, 1)
    assert dict(steps[0].arguments)["pad"] == (0, 0, 1, 0)
    assert padded(source, (columns, columns), value=0.0) == ((), source, (1, 1))
