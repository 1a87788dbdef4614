"""Intervals and boxes in proportion to shares."""

from __future__ import annotations

from edgeflow.planner.layouts.partition import apportioned


def test_strips_are_in_proportion_to_speed_by_largest_remainder() -> None:
    assert [i.length for i in apportioned(10, [1.0, 0.5, 0.3])] == [5, 3, 2]
    assert [i.length for i in apportioned(3, [1.0, 0.0, 0.2, 0.1])] == [2, 0, 1, 0]
