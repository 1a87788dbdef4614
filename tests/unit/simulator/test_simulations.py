"""The smallest setting of each folder of ``simulations/``."""

from __future__ import annotations

import csv
import importlib
from pathlib import Path

import msgspec
import pytest

from edgeflow.cluster import Cluster
from edgeflow.simulator.sweep import run_sweep
from edgeflow.simulator.sweep_file import expand, load_sweep
from edgeflow.simulator.sweep_plot import plot_sweep
from simulations.coedge.__main__ import chain, deadlines
from tests.unit.plan.tiny import convs

FOLDER = Path(__file__).parents[3] / "simulations"
#: Folders with a command of their own.
MODULES = ["allreduce", "churn", "coedge", "deepthings", "pipeline", "stealing", "traffic"]


@pytest.mark.parametrize("name", ["strategies", "scaling"])
def test_sweeps(name: str, tmp_path: Path) -> None:
    """One point of the sweep, on a model that is drawn at once, and its pictures."""
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    sweep = load_sweep(FOLDER / name / "sweep.yaml")
    settings = expand(sweep, FOLDER / name)
    first = [
        msgspec.structs.replace(item, requests=1, model=sweep.models[0])
        for item in settings
        if item.model == sweep.models[0] and item.cluster == settings[0].cluster
    ]
    rows = [row for _, row in run_sweep({sweep.models[0]: convs(3, 3)}, first)]

    assert {row["strategy"] for row in rows} == {item.strategy for item in settings}
    for plot in sweep.plots:
        plain = msgspec.structs.replace(plot, where={})
        plot_sweep(plain, rows, tmp_path / plot.file)
        assert (tmp_path / plot.file).exists()


@pytest.mark.parametrize(
    "name", ["allreduce", "churn", "coedge", "deepthings", "pipeline", "stealing", "traffic"]
)
def test_modules(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    monkeypatch.setattr("sys.argv", [name, "--small", "--output", str(tmp_path)])

    importlib.import_module(f"simulations.{name}.__main__").main()

    with (tmp_path / "results.csv").open() as file:
        assert len(list(csv.DictReader(file))) > 2
    assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("height", [4, 32])
def test_energy_falls_as_a_deadline_is_relaxed(height: int) -> None:
    """Where the device that keeps the deadline has the smallest share, it is not the one to be left out."""
    cluster = Cluster.load(FOLDER / "coedge" / "cluster.yaml")

    rows = deadlines({"chain": chain(height)}, cluster, (1.1, 2.0, 2.25, 2.5, 3.0, 12.0), ("coedge",))

    energies = [row["modelled_energy_j"] for row in rows]
    assert all(row["is_kept"] for row in rows)
    assert energies == sorted(energies, reverse=True)
    assert rows[-1]["chosen"] == "single on orin"
    assert all(row["simulated_latency_s"] == row["predicted_latency_s"] for row in rows)
