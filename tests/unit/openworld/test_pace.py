"""Gaps by epoch: rows are kept whole, pairs are compared with their own like."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import torch

from edgeflow.errors import ConfigError
from edgeflow.openworld import pace
from edgeflow.openworld.settings import settings_for
from edgeflow.openworld.train import train

_BASE = settings_for(
    "digits",
    num_images=60,
    test_images=40,
    batch_size=30,
    pretrain_batch_size=30,
    pretrain_epochs=1,
    epochs=2,
)


def _rows(variant: str, seed: int, gaps: list[float], *, accuracy: float = 0.5) -> list[dict[str, str]]:
    return [
        {
            "prototypes": "random",
            "variant": variant,
            "seed": str(seed),
            "pretrain_seed": "0",
            "settings": f"{variant}{seed}",
            "epoch": str(number),
            "seen": str(accuracy + gap),
            "novel": str(accuracy),
            "gap": str(gap),
            "all": str(accuracy),
            "nmi_novel": str(accuracy),
        }
        for number, gap in enumerate(gaps, start=1)
    ]


def test_differences_are_of_pairs() -> None:
    rows = [
        *_rows("lps", 0, [0.1, 0.2, 0.3, 0.4]),
        *_rows("lps-no-margin", 0, [0.3, 0.4, 0.3, 0.5]),
        *_rows("lps", 1, [0.2, 0.2, 0.2, 0.2]),
        *_rows("lps-no-margin", 1, [0.2, 0.4, 0.2, 0.3]),
        *_rows("lps", 2, [0.9, 0.9, 0.9, 0.9]),  # without its like
    ]

    cells = {
        line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:-1]]
        for line in pace.pace_markdown(rows, "random").splitlines()[2:]
    }

    assert cells["gap at the end"] == ["2", "30.0 ± 127.1", "40.0 ± 127.1", "-10.0 ± 0.0"]
    assert cells["gap, mean over epochs"][1].startswith("22.5")
    assert cells["gap, mean over the first half"][3].startswith("-15.0")  # -20 and -10
    assert cells["all"][3] == "+0.0 ± 0.0"
    assert pace.curves(rows, "clusters") == {}


def test_every_epoch_of_every_training_has_a_row_and_none_is_trained_twice(tmp_path: Path) -> None:
    results = tmp_path / "pace.csv"
    phases: list[str] = []

    def run(heads: list[str]) -> list[dict[str, str]]:
        running = pace.run_pace(
            _BASE, heads, [0], results=results, folder=tmp_path,
            on_epoch=lambda phase, *_: phases.append(phase),
        )  # fmt: skip
        return [row for _, rows in running for row in rows]

    first = run(["random"])
    both = run(["random", "clusters"])

    assert phases == ["simclr", *(["lps"] * 2 + ["lps-no-margin"] * 2) * 2]
    assert both[:4] == first
    assert both == pace.read_pace(results)
    assert [(row["prototypes"], row["variant"], row["epoch"]) for row in both] == [
        (head, variant, epoch)
        for head in ("random", "clusters")
        for variant in ("lps", "lps-no-margin")
        for epoch in ("1", "2")
    ]
    for row in both:
        assert float(row["gap"]) == pytest.approx(float(row["seen"]) - float(row["novel"]), abs=2e-6)


def test_a_shared_pretraining_is_that_of_its_seed(tmp_path: Path) -> None:
    """Features are those of the other seed; labels and first prototypes are one's own."""
    settings = msgspec.structs.replace(_BASE, epochs=0)
    other, own, shared = (
        train(msgspec.structs.replace(settings, **changes), tmp_path)
        for changes in ({"seed": 1}, {"seed": 2}, {"seed": 2, "pretrain_seed": 1})
    )

    weights = [dict(trained.learner.state_dict()) for trained in (other, own, shared)]
    for name, tensor in weights[2].items():
        assert torch.equal(tensor, weights[1 if ".head." in name else 0][name]), name
    assert not torch.equal(weights[0]["model.head.known"], weights[1]["model.head.known"])
    assert torch.equal(shared.material.split.labelled, own.material.split.labelled)
    assert len(list(tmp_path.glob("simclr-*"))) == 2


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")

    with pytest.raises(ConfigError, match="has other columns"):
        pace.read_pace(tmp_path / "x.csv")
