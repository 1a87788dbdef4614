"""Decisions in words, and their gain."""

from __future__ import annotations

import math

import pytest

from edgeflow.balancer.decision import Decision


def decision(before_s: float, after_s: float, **more: object) -> Decision:
    return Decision(  # type: ignore[arg-type]
        time_s=1.0, verdict="switch", reason="a gain", before_s=before_s, after_s=after_s, **more
    )


def test_the_gain_is_a_share_of_the_value_before() -> None:
    assert decision(4.0, 3.0).gain == 0.25
    assert decision(2.0, 3.0).gain == -0.5
    assert decision(1.0, math.inf).gain == -math.inf
    assert decision(0.0, 3.0).gain == 0.0


def test_a_decision_explains_itself_with_its_numbers() -> None:
    made = decision(0.2, 0.1, before="a on x", after="b on y", slowness={"y": 1.0, "x": 2.5})

    assert made.explain() == (
        "switch: a gain; 200.0 ms (a on x) -> 100.0 ms (b on y); slowness: x 2.50x, y 1.00x"
    )
    assert decision(0.2, 0.1).explain().endswith("slowness: unknown")


@pytest.mark.parametrize("verdict", ["stay", "impossible"])
def test_other_verdicts_come_first_in_the_line(verdict: str) -> None:
    made = Decision(time_s=0.0, verdict=verdict, reason="r", before_s=1.0, after_s=1.0)
    assert made.explain().startswith(f"{verdict}: r; ")
