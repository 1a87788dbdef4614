"""The table: rows are kept, not made twice, and summed up rightly."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from scipy import stats

from edgeflow.errors import ConfigError
from edgeflow.openworld import table
from edgeflow.openworld.settings import TrainSettings, settings_for

_BASE = settings_for(
    "digits",
    num_images=100,
    test_images=40,
    batch_size=50,
    pretrain_batch_size=50,
    pretrain_epochs=1,
    epochs=1,
)


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Replace training by numbers, and note what was trained."""
    made: list[tuple[str, int]] = []

    def run_one(name: str, settings: TrainSettings, folder: Path, **_: Any) -> table.Row:
        made.append((name, settings.seed))
        row: dict[str, str] = dict.fromkeys(table._COLUMNS, f"{0.1 * settings.seed + len(name) / 100:.6f}")
        return {**row, "variant": name, "seed": str(settings.seed), "settings": table.fingerprint(settings)}

    monkeypatch.setattr(table, "run_one", run_one)
    return made


def test_a_second_run_makes_only_what_is_missing(tmp_path: Path, trainings: list[tuple[str, int]]) -> None:
    results = tmp_path / "rows.csv"
    running = table.run_table(_BASE, ["lps", "orca"], [0, 1], results=results, folder=tmp_path)
    for _ in range(3):
        next(running)
    running.close()  # killed here
    assert trainings == [("lps", 0), ("orca", 0), ("lps", 1)]

    rows = list(table.run_table(_BASE, ["lps", "orca"], [0, 1], results=results, folder=tmp_path))

    assert trainings[3:] == [("orca", 1)]
    assert rows == table.read_rows(results)
    assert [(row["variant"], row["seed"]) for row in rows] == [
        ("lps", "0"),
        ("orca", "0"),
        ("lps", "1"),
        ("orca", "1"),
    ]


def test_a_torn_last_line_is_trained_again(tmp_path: Path, trainings: list[tuple[str, int]]) -> None:
    results = tmp_path / "rows.csv"
    list(table.run_table(_BASE, ["lps", "orca"], [0], results=results, folder=tmp_path))
    text = results.read_text()
    results.write_text(text[: text.rindex(",") - 40])

    list(table.run_table(_BASE, ["lps", "orca"], [0], results=results, folder=tmp_path))
    list(table.run_table(_BASE, ["lps", "orca"], [0], results=results, folder=tmp_path))

    assert trainings == [("lps", 0), ("orca", 0), ("orca", 0)]


def test_rows_of_other_settings_are_not_mixed_in(tmp_path: Path, trainings: list[tuple[str, int]]) -> None:
    results = tmp_path / "rows.csv"
    list(table.run_table(_BASE, ["lps"], [0], results=results, folder=tmp_path))

    with pytest.raises(ConfigError, match="holds lps of seed 0 with other settings"):
        list(
            table.run_table(
                msgspec.structs.replace(_BASE, epochs=9), ["lps"], [0], results=results, folder=tmp_path
            )
        )


def test_a_real_row_is_whole(tmp_path: Path) -> None:
    results = tmp_path / "rows.csv"

    (row,) = table.run_table(_BASE, ["lps-frozen"], [3], results=results, folder=tmp_path)

    assert tuple(row) == table._COLUMNS
    assert (row["variant"], row["seed"]) == ("lps-frozen", "3")
    assert 0 <= float(row["transductive_all"]) <= 1
    assert float(row["transductive_gap"]) == pytest.approx(
        float(row["transductive_seen"]) - float(row["transductive_novel"]), abs=2e-6
    )


def test_interval_is_students() -> None:
    values = np.random.default_rng(0).normal(size=5)

    mean, half = table.interval(values)

    low, high = stats.t.interval(0.95, 4, loc=values.mean(), scale=stats.sem(values))
    assert (mean - half, mean + half) == pytest.approx((low, high))
    assert math.isnan(table.interval([1.0])[1])


def test_paired_difference_is_over_common_seeds() -> None:
    rows = [
        {"variant": name, "seed": str(seed), "transductive_all": str(value)}
        for name, seed, value in [
            ("lps", 0, 0.7),
            ("lps", 1, 0.8),
            ("orca", 0, 0.6),
            ("orca", 1, 0.7),
            ("orca", 2, 0.1),
        ]
    ]

    mean, half, num = table.paired(rows, "lps", "orca", "transductive_all")

    assert (mean, num) == (pytest.approx(0.1), 2)
    assert half == pytest.approx(0, abs=1e-9)


def test_table_has_a_line_for_each_method(tmp_path: Path, trainings: list[tuple[str, int]]) -> None:
    names = ["orca", "lps"]
    rows = list(table.run_table(_BASE, names, [0, 1], results=tmp_path / "rows.csv", folder=tmp_path))

    lines = table.markdown(rows).splitlines()

    assert [line.split(" | ")[0] for line in lines[2:]] == ["| lps", "| orca"]
    assert "8.0 ± 63.5" in lines[2]  # 0.03 and 0.13, as percent: half = 12.706 * 7.07 / sqrt(2)


def test_every_variant_can_be_set_up() -> None:
    for name in table.variants(ablations=True):
        assert table.settings_of(name, _BASE, seed=1).seed == 1
    with pytest.raises(ConfigError, match="unknown variant 'gpt'"):
        table.settings_of("gpt", _BASE, seed=0)
