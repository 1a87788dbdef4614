"""Plans on disk: what is read is what was written, or a clear error."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeflow.errors import CodecError, ConfigError, EdgeflowError, InvalidPlanError
from edgeflow.plan import Candidate, Figures, Plan
from tests.unit.plan.tiny import convs, cut, mlp, plan, stage, summed


@pytest.fixture
def made() -> Plan:
    graph = mlp()
    pair = stage("pair", ["linear", "relu", "linear_1"], summed(graph, "linear_1", {0: (0, 4), 1: (4, 6)}))
    done = plan(graph, pair, stage("after", ["relu_1"], cut(graph, "relu_1", 0, {0: (0, 1), 1: (1, 2)})))
    candidates = (Candidate("by hand", Figures(0.25)), Candidate("single", reason="too large"))
    return done.reweighed(figures=Figures(0.25), candidates=candidates, chosen="by hand")


@pytest.fixture
def path(made: Plan, tmp_path: Path) -> Path:
    made.save(tmp_path / "plan.json")
    return tmp_path / "plan.json"


def changed(path: Path, change: Callable[[Any], object]) -> None:
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def test_a_plan_is_read_as_it_was_written(made: Plan, path: Path) -> None:
    read = Plan.load(path, made.graph)

    assert read.fingerprint == made.fingerprint
    assert read.stages == made.stages
    assert read.cluster == made.cluster
    assert read.candidates == made.candidates
    assert (read.strategy, read.objective, read.chosen) == (made.strategy, made.objective, made.chosen)
    assert read.predicted_latency_s == made.predicted_latency_s
    assert read.explain() == made.explain()


def test_a_latency_that_is_not_known_stays_unknown(made: Plan, tmp_path: Path) -> None:
    made.reweighed(figures=Figures()).save(str(tmp_path / "plan.json"))

    assert math.isnan(Plan.load(str(tmp_path / "plan.json"), made.graph).predicted_latency_s)


def test_a_file_of_version_1_is_still_read(made: Plan, path: Path) -> None:
    full = made.reweighed(
        objective="energy",
        deadline_s=0.5,
        figures=Figures(0.25, 0.125, 2.0),
        lower_bound_s=0.0625,
        candidates=(Candidate("by hand", Figures(0.25, None, 2.0)), Candidate("single", reason="too large")),
    )
    full.save(path)

    def to_version_1(data: Any) -> None:
        data.pop("weighed")
        data.update(
            format="edgeflow-plan-1",
            strategy="by hand",
            objective="energy",
            deadline_s=0.5,
            predicted_latency_s=0.25,
            predicted_period_s=0.125,
            predicted_energy_j=2.0,
            lower_bound_s=0.0625,
            chosen="by hand",
            candidates=[
                {"label": "by hand", "latency_s": 0.25, "reason": "", "period_s": None, "energy_j": 2.0},
                {"label": "single", "latency_s": None, "reason": "too large"},
            ],
        )
        data.pop("activations")  # early files have none

    changed(path, to_version_1)
    read = Plan.load(path, made.graph)

    assert read.weighed == full.weighed
    assert read.fingerprint == full.fingerprint
    read.save(path)
    assert json.loads(path.read_text())["format"] == "edgeflow-plan-2"
    assert Plan.load(path, made.graph).weighed == full.weighed


def test_a_plan_for_another_graph_shows_both_fingerprints(path: Path) -> None:
    other = convs(3)

    with pytest.raises(InvalidPlanError) as caught:
        Plan.load(path, other)

    assert mlp().fingerprint in str(caught.value)
    assert other.fingerprint in str(caught.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read plan .*none\.json"):
        Plan.load(tmp_path / "none.json", mlp())


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff\xfe\x00",
        b'{"format": "edgeflow-plan-1"',
        b'{"format": "\xff"}',
        b'{"unknown": ' + b"[" * 100_000,
    ],
    ids=["empty", "list", "no-keys", "no-text", "cut-off", "no-utf8", "deep"],
)
def test_bytes_that_are_no_plan(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_bytes(content)

    with pytest.raises(CodecError, match=r"plan\.json is not an edgeflow plan"):
        Plan.load(path, mlp())


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.pop("stages"),
        lambda data: data.pop("weighed"),
        lambda data: data.update(format="edgeflow-plan-99"),
        lambda data: data["stages"][0].update(operators="linear"),
        lambda data: data["stages"][0]["shards"][0].update(device="one"),
        lambda data: data["cluster"].update(devices=[]),
        lambda data: data["cluster"]["devices"][0].update(flops_per_second=-1.0),
        lambda data: data["cluster"].update(source="nobody"),
    ],
)
def test_a_file_that_was_damaged(change: Callable[[Any], object], path: Path) -> None:
    changed(path, change)

    with pytest.raises(CodecError):
        Plan.load(path, mlp())


def test_a_file_whose_plan_breaks_the_contract(path: Path) -> None:
    changed(path, lambda data: data["stages"].pop())

    with pytest.raises(InvalidPlanError, match="operators are in no stage"):
        Plan.load(path, mlp())


def test_no_cut_off_file_is_taken_for_a_plan(path: Path) -> None:
    content = path.read_bytes()
    for length in range(0, len(content) - 1, 37):
        path.write_bytes(content[:length])
        with pytest.raises(EdgeflowError):
            Plan.load(path, mlp())
