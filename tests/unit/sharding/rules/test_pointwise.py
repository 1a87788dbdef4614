"""Elementwise operators read what they make; dims of one element broadcast."""

from __future__ import annotations

from tests.unit.sharding.rules.operators import box, cut_of


def test_operands_broadcast_on_the_right() -> None:
    shapes = {"a": (2, 3, 4), "b": (3, 1), "y": (2, 3, 4)}
    made = cut_of("aten.add.Tensor", shapes, box((1, 2), (0, 2), (1, 3)), self="a", other="b", alpha=1)

    assert made.needs == {"a": box((1, 2), (0, 2), (1, 3)), "b": box((0, 2), (0, 1))}
    assert made.flops == 4


def test_transcendental_functions_cost_ten_times_as_much() -> None:
    shapes = {"a": (6,), "y": (6,)}

    assert cut_of("aten.exp.default", shapes, box((0, 3)), self="a").flops == 30
