"""The registry: one file, one function and one line of description per strategy."""

from __future__ import annotations

from edgeflow.planner import strategies


def test_strategies_are_listed_with_what_they_do() -> None:
    published = "single replicate modnn deepthings deeperthings coedge fused megatron galaxy voltage pipeline"
    assert {*published.split(), "auto", "brute_force"} <= set(strategies())
    assert all(len(line) > 20 and "\n" not in line for line in strategies().values())
