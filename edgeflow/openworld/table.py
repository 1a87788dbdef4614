"""Compare methods over seeds: a CSV file with one row per training, and a table of means.

Each row is written when its training ends, and trainings that have a row are not run again, so that the same
command continues after a kill.
"""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from scipy.stats import t as student_t

from edgeflow.errors import ConfigError
from edgeflow.openworld.fit import OnEpoch
from edgeflow.openworld.metrics import Scores
from edgeflow.openworld.settings import TrainSettings
from edgeflow.openworld.train import Result, fingerprint, train

#: Compared methods, and ablations of LPS: name -> changed settings.
COMPARED: Final[Mapping[str, Mapping[str, Any]]] = {
    "lps": {},
    "simclr-kmeans": {},
    "supervised": {},
    "fixmatch": {},
    "mixmatch": {},
    "orca": {},
    "simgcd": {},
}
ABLATIONS: Final[Mapping[str, Mapping[str, Any]]] = {
    "lps-no-margin": {},
    "lps-no-cluster-contrast": {},
    "lps-no-view-contrast": {},
    "lps-no-entropy": {},
    "lps-frozen": {"method": "lps", "trainable_blocks": 0},
    "lps-last-block": {"method": "lps", "trainable_blocks": 1},
}
_SCORES: Final = tuple(field.name for field in msgspec.structs.fields(Scores))
_COLUMNS: Final = (
    "variant",
    "seed",
    "settings",
    *(f"{where}_{name}" for where in ("transductive", "inductive") for name in _SCORES),
    "transductive_gap",
    "mean_gap",
)

Row = dict[str, str]


def variants(*, ablations: bool) -> dict[str, Mapping[str, Any]]:
    """Return the rows of the table: name -> changed settings."""
    return {**COMPARED, **(ABLATIONS if ablations else {})}


def settings_of(variant: str, base: TrainSettings, *, seed: int) -> TrainSettings:
    """Return the settings of one training.

    Raises:
        ConfigError: If there is no such variant.
    """
    known = variants(ablations=True)
    if variant not in known:
        raise ConfigError(f"unknown variant {variant!r}; there are {len(known)}: {', '.join(known)}")
    return msgspec.structs.replace(base, **{"method": variant, "seed": seed, **known[variant]})


def run_table(
    base: TrainSettings,
    names: Sequence[str],
    seeds: Sequence[int],
    *,
    results: Path,
    folder: Path,
    on_epoch: OnEpoch | None = None,
) -> Iterator[Row]:
    """Run the trainings that have no row in ``results`` yet, seed by seed; yield every row.

    Args:
        folder: For checkpoints.

    Raises:
        ConfigError: If ``results`` has a row of the same training with other settings.
    """
    done = {(row["variant"], int(row["seed"])): row for row in read_rows(results)}
    for seed in seeds:
        for name in names:
            settings = settings_of(name, base, seed=seed)
            row = done.get((name, seed))
            if row is None:
                row = run_one(name, settings, folder, on_epoch=on_epoch)
                append_row(results, row)
            elif row["settings"] != fingerprint(settings):
                raise ConfigError(
                    f"{results} holds {name} of seed {seed} with other settings ({row['settings']}, now "
                    f"{fingerprint(settings)}): name another file, or remove the row"
                )
            yield row


def run_on_ray(
    base: TrainSettings,
    names: Sequence[str],
    seeds: Sequence[int],
    *,
    results: Path,
    folder: Path,
    threads: int = 1,
    address: str | None = None,
) -> list[Row]:
    """Do the same as `run_table` with seeds in parallel, one per Ray worker; workers must share ``folder``.

    Raises:
        ConfigError: If Ray is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise ConfigError("this needs Ray: pip install 'edgeflow-inference[ray]'") from error
    done = {(row["variant"], int(row["seed"])): row for row in read_rows(results)}
    folder = folder.resolve()

    def of_seed(seed: int, wanted: Sequence[str]) -> list[Row]:
        import torch

        torch.set_num_threads(threads)
        return [run_one(name, settings_of(name, base, seed=seed), folder) for name in wanted]

    started = not ray.is_initialized()
    if started:
        ray.init(address=address, include_dashboard=False, log_to_driver=False)
    try:
        task = ray.remote(num_cpus=threads)(of_seed)
        pending = [task.remote(seed, [name for name in names if (name, seed) not in done]) for seed in seeds]
        while pending:
            ready, pending = ray.wait(pending)
            for row in ray.get(ready[0]):
                append_row(results, row)
    finally:
        if started:
            ray.shutdown()
    # All rows exist now: this only reads them and compares settings.
    return list(run_table(base, names, seeds, results=results, folder=folder))


def run_one(name: str, settings: TrainSettings, folder: Path, *, on_epoch: OnEpoch | None = None) -> Row:
    """Train once, and return its row."""
    return row_of(name, train(settings, folder, on_epoch=on_epoch).result)


def row_of(name: str, result: Result) -> Row:
    """Return the row of a training."""
    settings = result.settings
    row: dict[str, object] = {"variant": name, "seed": settings.seed, "settings": fingerprint(settings)}
    for where, scores in (("transductive", result.transductive), ("inductive", result.inductive)):
        row |= {f"{where}_{field}": getattr(scores, field) for field in _SCORES}
    row["transductive_gap"] = result.transductive.gap
    gaps = [epoch.scores.gap for epoch in result.history if epoch.scores is not None]
    row["mean_gap"] = float(np.mean(gaps)) if gaps else math.nan
    return {column: _text(row[column]) for column in _COLUMNS}


def _text(value: object) -> str:
    return f"{value:.6f}" if isinstance(value, float) else str(value)


def append_row(path: Path, row: Row) -> None:
    """Append a row to a CSV file, and flush it to the disk."""
    is_new = not path.exists() or not path.stat().st_size
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, _COLUMNS, lineterminator="\n")
        if is_new:
            writer.writeheader()
        writer.writerow(row)
        file.flush()
        os.fsync(file.fileno())


def read_csv(path: Path, columns: Container[tuple[str, ...]], what: str) -> list[Row]:
    """Return the rows of a CSV file; none if there is no file.

    Args:
        columns: The allowed tuples of columns.
        what: The expected kind of file, for the error.

    Raises:
        ConfigError: If it has other columns.
    """
    if not path.exists():
        return []
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) not in columns:
            raise ConfigError(f"{path} has other columns than {what}")
        return list(reader)


def read_rows(path: Path) -> list[Row]:
    """Return the rows of a CSV file without a torn last line; none if there is no file.

    Raises:
        ConfigError: If it has other columns.
    """
    rows = read_csv(path, {_COLUMNS, ()}, "a table of trainings")
    return [row for row in rows if None not in row.values()]


def interval(values: Iterable[float], *, confidence: float = 0.95) -> tuple[float, float]:
    """Return the mean and the half-width of its confidence interval (Student's t); NaN for one value.

    Examples:
        >>> mean, half = interval([1.0, 2.0, 3.0])
        >>> mean, round(half, 3)
        (2.0, 2.484)
    """
    array = np.array(list(values), dtype=np.float64)
    if len(array) < 2:
        return float(array.mean()), math.nan
    quantile = float(student_t.ppf((1 + confidence) / 2, len(array) - 1))
    return float(array.mean()), quantile * float(array.std(ddof=1)) / math.sqrt(len(array))


#: Heading -> column and factor.
_SHOWN: Final = {
    "seen": ("transductive_seen", 100),
    "novel": ("transductive_novel", 100),
    "all": ("transductive_all", 100),
    "NMI novel": ("transductive_nmi_novel", 100),
    "old, single": ("transductive_single_old", 100),
    "new, single": ("transductive_single_new", 100),
    "recovered": ("transductive_num_recovered", 1),
    "novel as seen": ("transductive_novel_as_seen", 100),
    "seen as novel": ("transductive_seen_as_novel", 100),
    "AUROC": ("transductive_auroc", 100),
    "all, held out": ("inductive_all", 100),
    "NMI novel, held out": ("inductive_nmi_novel", 100),
    "gap": ("transductive_gap", 100),
    "mean gap": ("mean_gap", 100),
}


def markdown(rows: Sequence[Row]) -> str:
    """Return the table of means with 95 % confidence intervals, in the order of `variants`."""
    by_variant: dict[str, list[Row]] = {}
    for row in rows:
        by_variant.setdefault(row["variant"], []).append(row)
    order = [name for name in variants(ablations=True) if name in by_variant]
    lines = [
        f"| method | seeds | {' | '.join(_SHOWN)} |",
        f"|---|---|{'---|' * len(_SHOWN)}",
    ]
    for name in order:
        cells = [
            _cell([factor * float(row[column]) for row in by_variant[name]])
            for column, factor in _SHOWN.values()
        ]
        lines.append(f"| {name} | {len(by_variant[name])} | {' | '.join(cells)} |")
    return "\n".join(lines)


def paired(rows: Sequence[Row], first: str, second: str, column: str) -> tuple[float, float, int]:
    """Return mean and half-width of the interval of ``first - second`` over common seeds, and their number.

    Both variants of a seed share its pre-training, so the difference varies less than either result.
    """
    values = {(row["variant"], row["seed"]): float(row[column]) for row in rows}
    seeds = sorted({seed for name, seed in values if name == first} & {s for n, s in values if n == second})
    if not seeds:
        return math.nan, math.nan, 0
    mean, half = interval(values[first, seed] - values[second, seed] for seed in seeds)
    return mean, half, len(seeds)


def _cell(values: Sequence[float]) -> str:
    if any(math.isnan(value) for value in values):
        return "-"
    mean, half = interval(values)
    return f"{mean:.1f}" if math.isnan(half) else f"{mean:.1f} ± {half:.1f}"
