"""The lines of a stream's events."""

from __future__ import annotations

from edgeflow.balancer import Decision
from edgeflow.cli.stream import line
from edgeflow.demo.stream import Failure, Second


def test_a_second_says_how_many_answers_how_long_and_from_where() -> None:
    said = line(Second(3.2, (0.002, 0.004, 0.009), ("fast", "slow")))
    assert said == "    3 s     3 answers, median   4.0 ms, longest   9.0 ms  on fast, slow"
    assert line(Second(1.0, (), ("fast",))) == "    1 s  no answer yet  on fast"


def test_a_failure_says_why() -> None:
    assert line(Failure(12.4, RuntimeError("it broke"))) == "   12 s  failed: it broke"


def test_a_switch_is_explained() -> None:
    made = Decision(time_s=1.0, verdict="switch", reason="a gain of 50%", before_s=2.0, after_s=1.0)
    assert line(made).strip() == made.explain()
