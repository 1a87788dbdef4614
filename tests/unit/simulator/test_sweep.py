"""Sweeps: every combination once, the same rows wherever they run, and files that are wrong."""

from __future__ import annotations

import csv
import importlib.util
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from edgeflow.cluster.cluster import Cluster
from edgeflow.errors import ConfigError
from edgeflow.planner import strategies
from edgeflow.simulator import Change, Scenario
from edgeflow.simulator.sweep import Row, Setting, run_setting, run_sweep, settings_of
from edgeflow.simulator.sweep_file import PlotSpec, expand, load_sweep, write_rows
from edgeflow.simulator.sweep_plot import plot_sweep
from tests.unit.plan.tiny import convs

SWEEP = """
models: [convs]
clusters:
  - {name: two, speeds: [1, 0.5]}
  - {name: three, speeds: [1, 1, 1], latency: 1 ms}
bandwidths: [1 Mbit/s, 1 Gbit/s]
strategies: [single, coedge]
seeds: [0, 1]
arrivals: ["poisson:100/s"]
requests: 5
"""


def settings() -> list[Setting]:
    return settings_of(
        models=["convs"],
        clusters=[Cluster.local([1.0, 0.5], name="two")],
        strategies=["single", "coedge"],
        arrivals=["poisson:1000/s"],
        seeds=[0, 1],
        requests=5,
    )


def rows_of(**where: object) -> list[Row]:
    done = dict(run_sweep({"convs": convs(3, 3)}, settings(), **where))  # type: ignore[arg-type]
    return [done[number] for number in sorted(done)]


def test_every_combination_is_there_once(tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").write_text(SWEEP)

    made = expand(load_sweep(tmp_path / "sweep.yaml"), tmp_path)

    assert len(made) == 2 * 2 * 2 * 2
    assert len({(item.cluster, item.strategy, item.seed) for item in made}) == 16
    assert {item.labels["bandwidth"] for item in made} == {125_000.0, 125_000_000.0}
    (tmp_path / "all.yaml").write_text(SWEEP.replace("[single, coedge]", "all"))
    everything = expand(load_sweep(tmp_path / "all.yaml"), tmp_path)
    assert {item.strategy for item in everything} == set(strategies())


def test_rows_follow_from_their_setting() -> None:
    rows = rows_of()

    assert [(row["strategy"], row["seed"]) for row in rows] == [
        ("single", 0),
        ("single", 1),
        ("coedge", 0),
        ("coedge", 1),
    ]
    assert rows == rows_of()
    assert rows[0]["p99_latency_s"] != rows[1]["p99_latency_s"]
    assert all(row["latency_s"] > 0 and row["problem"] == "" for row in rows)


def test_what_does_not_fit_is_a_row_that_says_so() -> None:
    small = Cluster.local([1.0], memory=1)

    row = run_setting(convs(3, 3), Setting(model="convs", cluster=small, strategy="single", requests=1))

    assert row["latency_s"] is None
    assert "it offers 1" in row["problem"]


def test_conditions_and_the_policy_are_part_of_a_setting() -> None:
    day = Scenario(name="day", changes=(Change(time_s=0.01, kind="lose", device="device1"),))
    setting = Setting(
        model="convs",
        cluster=Cluster.local([0.2, 1.0]),
        strategy="single",
        scenario=day,
        requests=50,
        with_policy=True,
    )

    row = run_setting(convs(3, 3), setting)

    assert (row["scenario"], row["policy"], row["num_lost"]) == ("day", True, 0)


@pytest.mark.slow
def test_processes_give_the_same_rows() -> None:
    assert rows_of(where="processes", workers=2) == rows_of()


#: In a process of its own, where warnings of Ray are none of ours.
_ON_RAY = """
import json, sys
from tests.unit.simulator.test_sweep import rows_of
if __name__ == "__main__":
    print(json.dumps(rows_of(where="ray", workers=1)))
"""


@pytest.mark.slow
def test_ray_gives_the_same_rows_and_leaves_no_process() -> None:
    import json

    # Not imported here: it changes how this process logs.
    if importlib.util.find_spec("ray") is None:
        pytest.skip("ray is not installed")
    started_s = time.time()

    ran = subprocess.run([sys.executable, "-c", _ON_RAY], capture_output=True, text=True, timeout=300)

    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout.splitlines()[-1]) == rows_of()
    for _ in range(100):  # Ray's own processes take a moment to go
        left = [
            item.info["cmdline"]
            for item in psutil.process_iter(["cmdline", "create_time"])
            if item.info["create_time"] >= started_s
            and any("raylet" in part or "gcs_server" in part for part in item.info["cmdline"] or ())
        ]
        if not left:
            break
        time.sleep(0.1)
    assert not left


def test_results_as_csv_and_parquet(tmp_path: Path) -> None:
    rows = rows_of()
    write_rows(tmp_path / "rows.csv", rows)

    with (tmp_path / "rows.csv").open() as file:
        read = list(csv.DictReader(file))
    assert [float(row["latency_s"]) for row in read] == [row["latency_s"] for row in rows]
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    write_rows(tmp_path / "rows.parquet", rows)
    assert parquet.read_table(tmp_path / "rows.parquet").to_pylist() == rows


@pytest.mark.parametrize("kind", ["winners", "regret", "lines"])
def test_pictures(kind: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    rows = [
        {"bandwidth": x, "cluster": y, "strategy": name, "latency_s": value}
        for x in (1e5, 1e8)
        for y in ("two", "three")
        for name, value in (("single", 0.1), ("coedge", x / 1e9 + 0.05), ("auto", 0.1), ("large", None))
    ]

    plot_sweep(PlotSpec(kind=kind, file="a.png"), rows, tmp_path / "a.png")

    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_pictures_of_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no plot 'pie'; known: winners, regret, lines"):
        plot_sweep(PlotSpec(kind="pie", file="a.png"), rows_of(), tmp_path / "a.png")
    with pytest.raises(ConfigError, match="the results have no column 'colour'"):
        plot_sweep(PlotSpec(kind="lines", file="a.png", x="colour"), rows_of(), tmp_path / "a.png")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("models: [a]\nclusters: []\nstrategy: x", "unknown field `strategy`"),
        ("models: 3\nclusters: []", "Expected `array`, got `int`"),
        ("models: [a]\nclusters: [{name: x}]", "cluster 'x': give either `file` or `speeds`"),
        ("models: [a]\nclusters: [{name: x, file: y.yaml, memory: 1 GiB}]", "memory goes with `speeds` only"),
        ("models: [a]\nclusters: []\nstrategies: [best]", "no strategy 'best'"),
        ("models: [a]\nclusters: []\nstrategies: best", "expected `all` or a list"),
        ("models: [", "is not YAML"),
    ],
)
def test_files_that_are_wrong(text: str, problem: str, tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").write_text(text)

    with pytest.raises(ConfigError, match=problem):
        expand(load_sweep(tmp_path / "sweep.yaml"), tmp_path)


def test_a_model_that_nobody_brings() -> None:
    with pytest.raises(ConfigError, match="no model 'convs' in the sweep; known: other"):
        list(run_sweep({"other": convs(3, 3)}, settings()))
    with pytest.raises(ConfigError, match="workers must be at least 1, got 0"):
        list(run_sweep({"convs": convs(3, 3)}, settings(), workers=0))
