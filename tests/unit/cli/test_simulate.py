"""``edgeflow simulate`` and ``edgeflow sweep``: tables, files, and one exit code for each kind of mistake."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import edgeflow as ef
from edgeflow.cli.app import app
from tests.unit.plan.tiny import convs


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture
def model(tmp_path: Path) -> str:
    path = tmp_path / "convs.safetensors"
    ef.save_graph(convs(3, 3), path)
    return str(path)


def test_strategies_side_by_side(model: str) -> None:
    options = [
        "--speeds",
        "1,0.5",
        "--strategy",
        "single,coedge",
        "--requests",
        "20",
        "--arrivals",
        "poisson:50/s",
    ]

    table = invoke("simulate", model, *options)
    described = json.loads(invoke("simulate", model, *options, "--json").stdout)

    assert table.exit_code == 0
    assert all(name in table.stdout for name in ("single", "coedge", "95 %", "answers/s", "busiest"))
    assert [item["strategy"] for item in described] == ["single", "coedge"]
    assert described[0]["p95_latency_s"] > 0
    assert described[0]["num_lost"] == 0
    assert "records" not in described[0]


def test_all_strategies_are_those_that_there_are(model: str) -> None:
    ran = invoke("simulate", model, "--speeds", "1,1", "--strategy", "all", "--requests", "1", "--json")

    assert [item["strategy"] for item in json.loads(ran.stdout)] == list(ef.strategies())


def test_a_scenario_and_a_timeline(model: str, tmp_path: Path) -> None:
    (tmp_path / "day.yaml").write_text("events: [{at: 50 ms, lose: device1}]")
    trace = tmp_path / "trace.json"

    ran = invoke(
        "simulate", model, "--speeds", "1,1", "--strategy", "coedge", "--requests", "30",
        "--arrivals", "every:10 ms", "--scenario", str(tmp_path / "day.yaml"), "--policy",
        "--trace", str(trace), "--json",
    )  # fmt: skip

    assert ran.exit_code == 0, ran.output
    (described,) = json.loads(ran.stdout)
    assert [item["reason"] for item in described["switches"]] == ["start"] or described["switches"][1][
        "reason"
    ].startswith("lost")
    assert described["num_lost"] == 0
    names = {event["args"].get("name") for event in json.loads(trace.read_text())["traceEvents"]}
    assert {"client", "device0"} <= names


def test_a_trace_of_arrivals_says_how_many_requests(model: str, tmp_path: Path) -> None:
    (tmp_path / "arrivals.txt").write_text("0\n0.1\n0.2\n")
    arrivals = ["--speeds", "1", "--strategy", "single", "--arrivals", f"trace:{tmp_path / 'arrivals.txt'}"]

    ran = invoke("simulate", model, *arrivals, "--json")
    longer = invoke("simulate", model, *arrivals, "--requests", "5")

    assert json.loads(ran.stdout)[0]["makespan_s"] == pytest.approx(0.2, rel=0.05)
    assert longer.exit_code == 3
    assert "ended at 0.2 s with request 3, 5 were asked for" in longer.stderr


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--speeds", "1", "--memory", "10 B"], 4, "it offers 10"),
        (["--speeds", "1", "--memory", "10 B", "--strategy", "all"], 4, "it offers 10"),
        (["--speeds", "1", "--strategy", "best"], 3, "no strategy 'best'"),
        (["--speeds", "1", "--arrivals", "often"], 3, "unknown kind 'often'"),
        (["--speeds", "1", "--scenario", "none.yaml"], 3, "cannot read scenario file none.yaml"),
        (["--speeds", "1", "--trace", "nowhere/trace.json"], 3, "there is no folder nowhere"),
        (["--speeds", "1", "--strategy", "all", "--trace", "t.json"], 2, "--trace is for one strategy"),
        (["--speeds", "1", "--requests", "0"], 3, "requests must be at least 1, got 0"),
        ([], 2, "give either --cluster FILE or --speeds"),
    ],
)
def test_mistakes(model: str, options: list[str], code: int, message: str) -> None:
    ran = invoke("simulate", model, *options)

    assert ran.exit_code == code
    assert message in " ".join(ran.stderr.replace("│", " ").split())


def test_a_trace_that_ends_too_early(model: str, tmp_path: Path) -> None:
    (tmp_path / "day.yaml").write_text("traces: [{of: network, points: [[0 s, 1 Gbit/s]], duration: 1 s}]")

    ran = invoke(
        "simulate", model, "--speeds", "1,1", "--strategy", "coedge", "--requests", "10",
        "--arrivals", "every:500 ms", "--scenario", str(tmp_path / "day.yaml"),
    )  # fmt: skip

    assert ran.exit_code == 3
    assert "the trace of network ended at 1 s" in ran.stderr
    assert "of 10 requests were answered at" in ran.stderr


def test_a_sweep_writes_rows_and_pictures(model: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    (tmp_path / "sweep.yaml").write_text(
        f"""
models: ["{model}"]
clusters: [{{name: two, speeds: [1, 1]}}, {{name: five, speeds: [1], devices: 5}}]
bandwidths: [1 Mbit/s, 1 Gbit/s]
strategies: [single, coedge]
requests: 2
plots: [{{kind: winners, file: winners.png}}]
"""
    )

    ran = invoke("sweep", str(tmp_path / "sweep.yaml"), "--json")

    assert ran.exit_code == 0, ran.output
    rows = json.loads(ran.stdout)
    assert [row["devices"] for row in rows] == [2, 2, 2, 2, 5, 5, 5, 5]
    assert len((tmp_path / "results.csv").read_text().splitlines()) == 9
    assert (tmp_path / "winners.png").exists()
    assert invoke("sweep", str(tmp_path / "none.yaml")).exit_code == 3
