"""The explanation holds the numbers that one decides by."""

from __future__ import annotations

import re

import torch
from torch import nn

from edgeflow.cluster.cluster import Cluster
from edgeflow.graph.capture import capture
from edgeflow.plan import Candidate, Figures, verify_plan
from edgeflow.rank.local import execute
from tests.unit.plan.tiny import mlp, plan, stage, summed, whole


def explained(*candidates: Candidate, num_devices: int = 3) -> str:
    graph = mlp()
    made = plan(
        graph,
        stage("pair", ["linear", "relu", "linear_1"], summed(graph, "linear_1", {0: (0, 4), 1: (4, 6)})),
        stage("after", ["relu_1"], whole(graph, "relu_1", 0)),
        cluster=Cluster.local([1.0] * num_devices, memory="1 MiB", name="desk"),
    )
    return made.reweighed(figures=Figures(0.002), chosen="by hand", candidates=candidates).explain()


def predicted(label: str, latency_s: float) -> Candidate:
    return Candidate(label, Figures(latency_s))


def line_of(text: str, start: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(start))


def test_it_names_model_cluster_strategy_and_prediction() -> None:
    text = explained()

    assert "4 operators" in text
    assert "232 B of weights" in text
    assert "3 devices of 'desk'" in text
    assert "strategy by hand: by hand, predicted 2.0 ms" in text


def test_it_shows_each_devices_share_of_a_stage() -> None:
    # Columns 4 and 2 of 6, in linear, relu and linear_1: exactly two thirds and one third.
    assert "device0 67 %, device1 33 %" in explained()


def test_it_shows_work_traffic_and_memory_of_each_device() -> None:
    text = explained()

    first, second = line_of(text, "  device0 "), line_of(text, "  device1 ")
    assert re.search(r"144 FLOP, sends\s+32 B in 1 messages", first)
    assert re.search(r"68 FLOP, sends\s+32 B in 1 messages", second)
    assert "of 1.0 MiB" in first
    assert line_of(text, "  device2 ").split() == ["device2", "idle"]
    assert re.search(r"sends\s+64 B in 2 messages", line_of(text, "  client "))


def test_it_compares_with_the_best_device_alone() -> None:
    text = explained(
        predicted("by hand", 0.002),
        predicted("single on device0", 0.005),
        predicted("single on device1", 0.009),
    )
    assert "2.50x the speed of the best device alone (single on device0, 5.0 ms)" in text


def test_it_says_when_one_device_alone_is_faster() -> None:
    graph = mlp()
    made = plan(graph, stage("all", [op.name for op in graph.operators], whole(graph, "relu_1", 1)))
    candidates = (predicted("single on device1", 0.001), predicted("rows on 2 devices", 0.003))

    text = made.reweighed(candidates=candidates, chosen="single on device1").explain()

    assert "one device alone is faster than any split that was tried (single on device1)" in text


def test_it_lists_what_was_weighed_and_why_it_was_not_chosen() -> None:
    text = explained(
        predicted("by hand", 0.002), predicted("rows", 0.003), Candidate("single", reason="too large")
    )

    assert line_of(text, "* by hand").split() == ["*", "by", "hand", "2.0", "ms"]
    assert line_of(text, "  rows").split() == ["rows", "3.0", "ms"]
    assert line_of(text, "  single").endswith("too large")


def test_it_does_not_list_for_ever() -> None:
    assert "and 12 more" in explained(*(predicted(f"candidate {i}", 0.01 + i) for i in range(20)))


def test_an_unknown_figure_is_not_shown_as_zero() -> None:
    made = plan(mlp(), stage("all", [op.name for op in mlp().operators], whole(mlp(), "relu_1", 0)))

    text = made.reweighed(objective="throughput", deadline_s=1.0, lower_bound_s=0.1).explain()

    assert "strategy by hand: by hand, not predicted" in text
    assert "objective throughput: not predicted" in text
    assert "deadline" not in text
    assert "% more" not in text


def test_it_shows_the_further_figure_of_an_objective() -> None:
    made = plan(mlp(), stage("all", [op.name for op in mlp().operators], whole(mlp(), "relu_1", 0)))
    good, bad = (Figures(0.002, 0.001, further={"top1_error": error}) for error in (0.08, 0.125))

    text = made.reweighed(
        objective="top1_error", figures=good, candidates=(Candidate("a", good), Candidate("b", bad))
    ).explain()

    assert "objective top1_error: 1,000.0 requests a second, top1_error 0.08" in text
    assert line_of(text, "  b").split() == ["b", "2.0", "ms,", "top1_error", "0.125"]


def test_a_stage_in_which_nobody_takes_part() -> None:
    """A model that returns what it is given: nothing is computed anywhere."""
    graph = capture(nn.Identity(), (torch.zeros(2),))

    made = plan(graph, stage("nothing", [], {}))

    verify_plan(made)
    assert "device0      idle" in made.explain()
    assert torch.equal(execute(made, (torch.ones(2),)), torch.ones(2))
