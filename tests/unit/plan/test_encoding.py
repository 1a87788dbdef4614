"""Frames that are encoded: many floats between devices over slow links, and no others."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import edgeflow as ef
from edgeflow.cost import CostModel
from edgeflow.errors import ConfigError
from edgeflow.graph.ir import ModelGraph
from edgeflow.plan import Plan
from edgeflow.plan.encoding import ENCODINGS, MIN_ELEMENTS
from edgeflow.plan.program import CLIENT, Receive
from edgeflow.simulator import simulate


@pytest.fixture(scope="module")
def graph() -> ModelGraph:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()]
    return ef.capture(nn.Sequential(*layers).eval(), (torch.randn(1, 3, 32, 64),))


def made(graph: ModelGraph, activations: str, bandwidth: str = "100 Mbit/s") -> Plan:
    cluster = ef.Cluster.local([1.0, 1.0], bandwidth=bandwidth)
    return ef.plan(graph, cluster, strategy="modnn", activations=activations)


def encodings(plan: Plan) -> dict[str, set[str]]:
    """Frames' encodings: with the client, large between devices, small between devices."""
    found: dict[str, set[str]] = {"client": set(), "large": set(), "small": set()}
    for rank, program in plan.programs.items():
        for send in program.sends:
            if CLIENT in (rank, send.peer):
                found["client"].add(send.encoding)
            else:
                found["large" if send.region.num_elements >= MIN_ELEMENTS else "small"].add(send.encoding)
    return found


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_large_frames_between_devices(graph: ModelGraph, encoding: str) -> None:
    found = encodings(made(graph, encoding))

    assert found["client"] == {""}
    assert found["large"] == {encoding}
    assert found["small"] <= {""}


def test_a_fast_link_carries_them_as_they_are(graph: ModelGraph) -> None:
    found = encodings(made(graph, "float16", bandwidth="10 Gbit/s"))

    assert found["large"] == {""}


def test_nothing_is_changed_unless_asked_for(graph: ModelGraph) -> None:
    assert encodings(made(graph, ""))["large"] == {""}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_both_sides_agree_and_the_answer_is_near(graph: ModelGraph, encoding: str) -> None:
    exact, narrow = made(graph, ""), made(graph, encoding)
    sends = {(send.tag, send.encoding) for program in narrow.programs.values() for send in program.sends}
    receives = {
        (item.tag, item.encoding)
        for program in narrow.programs.values()
        for item in program.instructions
        if isinstance(item, Receive)
    }
    inputs = (torch.randn(1, 3, 32, 64),)

    difference = (ef.execute(narrow, inputs) - ef.execute(exact, inputs)).abs().max()

    assert sends == receives
    assert 0 < difference < 0.05
    assert narrow.predicted_latency_s < exact.predicted_latency_s
    assert narrow.fingerprint != exact.fingerprint


def test_the_simulator_agrees_with_the_prediction(graph: ModelGraph) -> None:
    plan = made(graph, "int8")

    report = simulate(plan, cost=CostModel(cluster=plan.cluster), requests=1)

    assert report.latencies_s[0] == pytest.approx(plan.predicted_latency_s)


def test_a_saved_plan_keeps_them(graph: ModelGraph, tmp_path: Path) -> None:
    plan = made(graph, "int8")
    plan.save(tmp_path / "plan.json")

    again = Plan.load(tmp_path / "plan.json", graph)

    sends = [send for program in plan.programs.values() for send in program.sends]
    narrow = sum(bool(send.encoding) for send in sends)
    assert again.programs == plan.programs
    assert narrow > 0
    assert f"activations as int8 on slow links: {narrow} of {len(sends)} frames" in plan.explain()


def test_an_unknown_one(graph: ModelGraph) -> None:
    with pytest.raises(ConfigError, match="no encoding 'bf16'"):
        made(graph, "bf16")
