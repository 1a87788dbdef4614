"""Write `docs/openworld-table.md`: methods of open-world learning on Fashion-MNIST, over five seeds.

Trains what has no row in `docs/openworld-fashion-mnist.csv` yet, on one core, then writes the table; after a
kill the same command goes on. `--write` only writes the table, from the rows that there are. `--pace` first
trains what is missing in `docs/openworld-pace.csv`: LPS with and without its margin, from a head that
begins random and from one that begins with cluster means (`--heads`), with the accuracies of every epoch.
With `--pretrain-seed 0` all of these share the SimCLR of seed 0; with `--data digits` they are of the digits.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
import torch

from edgeflow.openworld.pace import HEADS, curves, pace_markdown, read_pace, run_pace
from edgeflow.openworld.settings import settings_for
from edgeflow.openworld.table import (
    COMPARED,
    Row,
    interval,
    markdown,
    paired,
    read_rows,
    run_table,
    variants,
)

_DOCS = Path(__file__).resolve().parent.parent / "docs"
_RESULTS = _DOCS / "openworld-fashion-mnist.csv"
#: Data -> gaps of every epoch.
_PACE = {"fashion-mnist": _DOCS / "openworld-pace.csv", "digits": _DOCS / "openworld-pace-digits.csv"}
_TABLE = _DOCS / "openworld-table.md"
_SEEDS = range(5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="only write the table")
    parser.add_argument("--output", type=Path, default=Path("train-output"), help="folder of checkpoints")
    parser.add_argument("--pace", action="store_true", help="gaps of every epoch instead of the methods")
    parser.add_argument("--data", choices=list(_PACE), default="fashion-mnist", help="with --pace")
    parser.add_argument("--pretrain-seed", type=int, help="with --pace: common seed of SimCLR")
    parser.add_argument(
        "--seeds", type=int, default=len(_SEEDS), help="with --pace: number of seeds (default: %(default)s)"
    )
    parser.add_argument("--heads", nargs="+", choices=HEADS, default=HEADS, help="with --pace")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    settings = settings_for("fashion-mnist", label_ratio=0.5, method="lps")
    names = list(variants(ablations=True))
    if arguments.pace and not arguments.write:
        base = settings_for(arguments.data, label_ratio=0.5, method="lps")
        base = msgspec.structs.replace(base, pretrain_seed=arguments.pretrain_seed)
        results = _PACE[arguments.data]
        for own, epochs in run_pace(
            base, arguments.heads, list(range(arguments.seeds)), results=results, folder=arguments.output
        ):
            print(own.prototypes, own.method, own.seed, epochs[-1]["gap"], file=sys.stderr, flush=True)
    elif not arguments.write:
        for row in run_table(settings, names, list(_SEEDS), results=_RESULTS, folder=arguments.output):
            print(row["variant"], row["seed"], row["transductive_all"], file=sys.stderr, flush=True)
    rows = read_rows(_RESULTS)
    _TABLE.write_text(_page(rows, len(names) * len(_SEEDS)))


def _page(rows: Sequence[Row], wanted: int) -> str:
    parts = [
        "<!-- Written by `python scripts/openworld.py`. -->",
        "# Fashion-MNIST, five known and five novel classes\n",
        f"{len(rows)} of {wanted} trainings are in this table. Means over seeds in %, with 95 % confidence "
        "intervals (Student's t); the last columns are explained in [openworld.md](openworld.md).\n",
        markdown(rows),
        "",
        "## LPS minus the others, seed by seed\n",
        "Methods share the pre-training of their seed, so differences vary less than results do. In points; "
        "positive: LPS is better.\n",
        "| against | seeds | all | NMI novel | all, held out |",
        "|---|---|---|---|---|",
        *(_against(rows, name) for name in COMPARED if name != "lps"),
        "",
        "## What the margin does to the gap\n",
        _margin(rows),
        "",
        *(line for data, results in _PACE.items() for line in _pace(data, read_pace(results))),
    ]
    return "\n".join(parts)


def _against(rows: Sequence[Row], name: str) -> str:
    columns = ("transductive_all", "transductive_nmi_novel", "inductive_all")
    found = [paired(rows, "lps", name, column) for column in columns]
    cells = [_points(mean, half) for mean, half, _ in found]
    return f"| {name} | {found[0][2]} | {' | '.join(cells)} |"


def _margin(rows: Sequence[Row]) -> str:
    """Return text on the gap (seen minus novel accuracy) with and without the margin."""
    lines = []
    for column, what in (("transductive_gap", "at the end"), ("mean_gap", "mean over epochs")):
        by_name = {
            name: [100 * float(row[column]) for row in rows if row["variant"] == name]
            for name in ("lps", "lps-no-margin")
        }
        if not all(by_name.values()):
            return "No rows yet."
        means = {name: interval(values)[0] for name, values in by_name.items()}
        mean, half, num = paired(rows, "lps", "lps-no-margin", column)
        lines.append(
            f"Seen minus novel accuracy, {what}: {means['lps']:.1f} with the margin, "
            f"{means['lps-no-margin']:.1f} without; difference {_points(mean, half)} over {num} seeds."
        )
    return "\n".join(lines)


def _pace(data: str, rows: Sequence[Row]) -> list[str]:
    """Return text on the same gap for both kinds of initial prototypes, from the accuracies per epoch."""
    begins = {"random": "random", "clusters": "with cluster means"}
    return [
        f"Heads that begin {begins[head]}, {data} (`{_PACE[data].name}`), in points:\n\n"
        f"{pace_markdown(rows, head)}\n"
        for head in HEADS
        if curves(rows, head)
    ]


def _points(mean: float, half: float) -> str:
    if math.isnan(mean):
        return "-"
    return f"{100 * mean:+.1f}" if math.isnan(half) else f"{100 * mean:+.1f} ± {100 * half:.1f}"


if __name__ == "__main__":
    main()
