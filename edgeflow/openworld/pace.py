"""Compare how far novel classes lag behind known ones per epoch, with LPS's margin and without.

The results are a CSV file with one row per epoch of each training; all rows of a training are written
together.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from edgeflow.openworld.fit import OnEpoch
from edgeflow.openworld.settings import TrainSettings
from edgeflow.openworld.table import Row, interval, read_csv
from edgeflow.openworld.train import Result, fingerprint, train

#: The compared methods; differences are the first minus the second.
PAIR: Final = ("lps", "lps-no-margin")
#: Initial prototypes: `TrainSettings.prototypes`.
HEADS: Final = ("random", "clusters")
_SHOWN: Final = ("seen", "novel", "gap", "all", "nmi_novel")
_COLUMNS: Final = ("prototypes", "variant", "seed", "pretrain_seed", "settings", "epoch", *_SHOWN)

#: The epochs of one training, each ``column -> value``.
Curve = list[dict[str, float]]
#: Name -> measure of a curve; all but the means use the last epoch.
MEASURES: Final[Mapping[str, Callable[[Curve], float]]] = {
    "gap at the end": lambda curve: curve[-1]["gap"],
    "gap, mean over epochs": lambda curve: _mean_gap(curve),
    "gap, mean over the first half": lambda curve: _mean_gap(curve[: len(curve) // 2]),
    "all": lambda curve: curve[-1]["all"],
    "NMI novel": lambda curve: curve[-1]["nmi_novel"],
}


def run_pace(
    base: TrainSettings,
    heads: Sequence[str],
    seeds: Sequence[int],
    *,
    results: Path,
    folder: Path,
    on_epoch: OnEpoch | None = None,
) -> Iterator[tuple[TrainSettings, list[Row]]]:
    """Run the trainings whose rows are not in ``results`` yet, all seeds of one head first.

    Args:
        folder: For checkpoints.

    Yields:
        Settings and rows of each training.

    Raises:
        ConfigError: If the file has other columns.
    """
    for head in heads:
        for seed in seeds:
            for method in PAIR:
                settings = msgspec.structs.replace(base, method=method, seed=seed, prototypes=head)
                if settings.pretrain_seed == seed:
                    settings = msgspec.structs.replace(settings, pretrain_seed=None)
                done = read_pace(results)
                own = [row for row in done if row["settings"] == fingerprint(settings)]
                if not own:
                    own = rows_of(train(settings, folder, on_epoch=on_epoch).result)
                    _write(results, [*done, *own])
                yield settings, own


def rows_of(result: Result) -> list[Row]:
    """Return the rows of a training; its method must predict by ``argmax``, which gives scores per epoch."""
    settings = result.settings
    about = {
        "prototypes": settings.prototypes,
        "variant": settings.method,
        "seed": str(settings.seed),
        "pretrain_seed": str(settings.seed if settings.pretrain_seed is None else settings.pretrain_seed),
        "settings": fingerprint(settings),
    }
    return [
        {**about, "epoch": str(epoch.number)}
        | {name: f"{getattr(epoch.scores, name):.6f}" for name in _SHOWN}
        for epoch in result.history
    ]


def read_pace(path: Path) -> list[Row]:
    """Return the rows of a file; none where there is no file.

    Raises:
        ConfigError: If its columns are others.
    """
    return read_csv(path, {_COLUMNS}, "gaps by epoch")


def _write(path: Path, rows: Sequence[Row]) -> None:
    """Replace the file atomically, so that a kill never leaves part of a training in it."""
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text.getvalue())
    partial.replace(path)


def curves(rows: Sequence[Row], head: str) -> dict[tuple[str, str, str], Curve]:
    """Return (variant, seed, pretrain_seed) -> epochs, for trainings with these initial prototypes."""
    found: dict[tuple[str, str, str], Curve] = {}
    for row in rows:
        if row["prototypes"] == head:
            key = (row["variant"], row["seed"], row["pretrain_seed"])
            found.setdefault(key, []).append({name: float(row[name]) for name in _SHOWN})
    return found


def pace_markdown(rows: Sequence[Row], head: str) -> str:
    """Return a table of means with and without the margin, and of differences between pairs of trainings.

    In percentage points, with 95 % confidence intervals (Student's t) over the pairs.
    """
    found = curves(rows, head)
    keys = [
        (seed, pre) for variant, seed, pre in found if variant == PAIR[0] and (PAIR[1], seed, pre) in found
    ]
    if not keys:
        return "No pair yet."
    lines = [
        "| | pairs | with the margin | without | difference |",
        "|---|---|---|---|---|",
    ]
    for name, measure in MEASURES.items():
        first, second = (
            np.array([100 * measure(found[variant, seed, pre]) for seed, pre in keys]) for variant in PAIR
        )
        cells = [f"{mean:.1f} ± {half:.1f}" for mean, half in (interval(first), interval(second))]
        mean, half = interval(first - second)
        lines.append(f"| {name} | {len(keys)} | {cells[0]} | {cells[1]} | {mean:+.1f} ± {half:.1f} |")
    return "\n".join(lines)


def _mean_gap(curve: Curve) -> float:
    return float(np.mean([epoch["gap"] for epoch in curve]))
