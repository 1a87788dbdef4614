"""The smallest setting of each folder of ``simulations/``."""

from __future__ import annotations

import csv
import importlib
from pathlib import Path

import msgspec
import pytest

from edgeflow.simulator.sweep import run_sweep
from edgeflow.simulator.sweep_file import expand, load_sweep
from edgeflow.simulator.sweep_plot import plot_sweep
from tests.unit.plan.tiny import convs

FOLDER = Path(__file__).parents[3] / "simulations"


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


@pytest.mark.parametrize("name", ["allreduce", "churn", "coedge", "deepthings", "pipeline", "stealing", "traffic"])
def test_modules(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    monkeypatch.setattr("sys.argv", [name, "--small", "--output", str(tmp_path)])

    importlib.import_module(f"simulations.{name}.__main__").main()

    with (tmp_path / "results.csv").open() as file:
        assert len(list(csv.DictReader(file))) > 2
    assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
