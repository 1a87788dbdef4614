"""``edgeflow train``: what it writes, and one exit code for each kind of mistake."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from edgeflow.cli.app import app
from edgeflow.openworld.weights import load_model

_SHORT = ("--images", "120", "--epochs", "1", "--pretrain-epochs", "1")


def _invoke(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["train", *arguments])


def test_a_training_leaves_a_model_logs_and_pictures(tmp_path: Path) -> None:
    ran = _invoke("--data", "digits", *_SHORT, "--output", str(tmp_path), "--json")

    assert ran.exit_code == 0, ran.output
    (row,) = json.loads(ran.stdout)
    folder = tmp_path / "lps-seed0"
    assert {path.name for path in folder.iterdir()} == {
        "model.safetensors",
        "result.json",
        "history.csv",
        "pace.png",
        "map.png",
        "confusion.png",
    }
    result = json.loads((folder / "result.json").read_text())
    assert result["transductive"]["all"] == pytest.approx(float(row["transductive_all"]), abs=1e-6)
    with (folder / "history.csv").open() as file:
        (epoch,) = csv.DictReader(file)
    assert float(epoch["gap"]) == pytest.approx(float(epoch["seen"]) - float(epoch["novel"]))
    assert load_model(folder / "model.safetensors").about.inductive.all == result["inductive"]["all"]
    assert all((folder / name).read_bytes()[:4] == b"\x89PNG" for name in ("pace.png", "map.png"))


def test_the_same_command_again_trains_nothing(tmp_path: Path) -> None:
    first = _invoke(*_SHORT, "--output", str(tmp_path), "--json")
    states = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.safetensors")}

    second = _invoke(*_SHORT, "--output", str(tmp_path), "--json")

    assert json.loads(first.stdout) == json.loads(second.stdout)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.safetensors")} == states


def test_a_table_has_all_methods(tmp_path: Path) -> None:
    results = tmp_path / "rows.csv"

    ran = _invoke("--table", *_SHORT, "--seeds", "1", "--output", str(tmp_path), "--results", str(results))

    assert ran.exit_code == 0, ran.output
    assert "| lps | 1 |" in ran.stdout
    assert "| simclr-kmeans | 1 |" in ran.stdout
    assert len(results.read_text().splitlines()) == 1 + 7


def test_the_estimated_number_of_classes_is_trained_with(tmp_path: Path) -> None:
    """Up to seven are tried, so the ten that there are cannot be what was trained with."""
    ran = _invoke(*_SHORT, "--estimate-classes", "7", "--output", str(tmp_path))

    assert ran.exit_code == 0, ran.output
    assert "   7 classes:" in ran.stdout
    found = int(ran.stdout.partition("estimate: ")[2].split()[0])
    folder = tmp_path / f"lps-seed0-{found}-classes"
    loaded = load_model(folder / "model.safetensors")
    assert loaded.learner.model.config.num_classes == len(loaded.about.class_names) == found <= 7
    assert "confusion.png" in {path.name for path in folder.iterdir()}

    again = _invoke(*_SHORT, "--estimate-classes", "7", "--output", str(tmp_path), "--json")

    (row,) = json.loads(again.stdout)
    assert row["num_classes"] == found
    assert list(row["agreement"]) == ["5", "6", "7"]


@pytest.mark.slow
def test_the_digits_are_counted_and_learnt_without_being_told_how_many(tmp_path: Path) -> None:
    """SimCLR is short here: it finds 8; with all of its epochs it finds the ten that there are."""
    ran = _invoke("--pretrain-epochs", "20", "--epochs", "15", "--estimate-classes", "14", "--json",
                  "--output", str(tmp_path))  # fmt: skip

    assert ran.exit_code == 0, ran.output
    (row,) = json.loads(ran.stdout)
    assert 7 <= row["num_classes"] <= 12
    assert float(row["transductive_seen"]) > 0.9
    assert float(row["transductive_novel"]) > 0.45


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--data", "mnist"), 3, "unknown data set 'mnist'"),
        (("--method", "magic"), 3, "unknown method 'magic'; there are 11: lps, orca"),
        (("--data", "cifar-10"), 3, "cifar-10 needs the folder of its files"),
        (("--known", "11"), 3, "11 known classes do not fit 10 classes"),
        (("--label-ratio", "1"), 3, "label_ratio is 1.0"),
        (("--trainable-blocks", "-1"), 3, "trainable_blocks is -1"),
        (("--seeds", "a"), 2, "expected numbers such as"),
        (("--ablations",), 2, "--ablations needs --table"),
        (("--table", "--estimate-classes", "9"), 2, "excludes --table and --ray"),
        (("--method", "magic", "--estimate-classes", "9"), 3, "unknown method 'magic'"),
    ],
)
def test_mistakes(tmp_path: Path, arguments: tuple[str, ...], code: int, message: str) -> None:
    ran = _invoke(*arguments, "--output", str(tmp_path))

    assert ran.exit_code == code, ran.output
    assert message in " ".join(ran.stderr.replace("│", " ").split())


@pytest.mark.slow
def test_seeds_side_by_side_on_ray_are_those_of_one_after_the_other(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    common = ("--method", "lps", *_SHORT, "--seeds", "0,1", "--json")

    alone = _invoke(*common, "--output", str(tmp_path / "a"))
    beside = _invoke(*common, "--output", str(tmp_path / "b"), "--ray", "local")

    assert beside.exit_code == 0, beside.output
    assert json.loads(alone.stdout) == json.loads(beside.stdout)
