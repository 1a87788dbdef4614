"""Shared parts of the folders' commands: options, tables, and axes of plots."""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

#: Columns of a table -> text, numbers, or None.
Row = dict[str, Any]


def parser(doc: str | None, folder: Path) -> argparse.ArgumentParser:
    """Return the options of every command; by default results go beside the command."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--output", type=Path, default=folder, help="folder of the table and the plot")
    made.add_argument("--small", action="store_true", help="the smallest setting")
    return made


def write(path: Path, rows: Sequence[Row]) -> None:
    """Write a table with the columns of the first row; columns missing in another row stay empty."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def where(rows: Sequence[Row], **values: object) -> list[Row]:
    """Return the rows that have these values."""
    return [row for row in rows if all(row[key] == value for key, value in values.items())]


def distinct(rows: Sequence[Row], column: str) -> list[Any]:
    """Return the distinct values of a column, in order of first appearance."""
    return list(dict.fromkeys(row[column] for row in rows))


def finish(ax: Any, title: str, x: str, y: str = "") -> None:
    """Give an axis its title, labels and grid."""
    ax.set_title(title, fontsize=9)
    ax.set_xlabel(x, fontsize=8)
    ax.set_ylabel(y, fontsize=8)
    ax.tick_params(labelsize=7)
    ax.set_axisbelow(True)
    ax.grid(color="#e6e8eb", linewidth=0.7)
