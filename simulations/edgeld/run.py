"""Print EdgeLD's Table I beside its prediction, and draw it: ``python -m simulations.edgeld.run``."""

from __future__ import annotations

import argparse
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

from simulations.edgeld.table import Cell, load_config, table

_FOLDER = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=_FOLDER, help="folder of the picture and the results")
    output: Path = parser.parse_args().output
    config = load_config()
    cells = table(config)
    print(text_of(cells))
    output.mkdir(parents=True, exist_ok=True)
    results = {
        "commit": commit(),
        "settings": config,
        "cells": [{**cell_dict(cell), "error": round(cell.error, 4)} for cell in cells],
    }
    (output / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    draw(cells, output / "table1.png")


def cell_dict(cell: Cell) -> dict[str, str | int | float]:
    return {
        "network": cell.network,
        "link": cell.link,
        "followers": cell.followers,
        "published_s": cell.published_s,
        "predicted_s": round(cell.predicted_s, 3),
    }


def commit() -> str:
    """Return the commit that the results come from, with a mark if files have changed since."""
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=_FOLDER, capture_output=True, text=True, check=False
    )
    return described.stdout.strip() or "unknown"


def text_of(cells: Sequence[Cell]) -> str:
    lines = [f"{'network':<8} {'link':<12} {'followers':>9} {'published':>10} {'predicted':>10} {'error':>7}"]
    lines += [
        f"{cell.network:<8} {cell.link:<12} {cell.followers:>9} {cell.published_s:>8.2f} s "
        f"{cell.predicted_s:>8.2f} s {100 * cell.error:>+6.1f}%"
        for cell in cells
    ]
    lines.append(f"largest error {100 * max(abs(cell.error) for cell in cells):.1f} %")
    return "\n".join(lines)


def draw(cells: Sequence[Cell], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    networks = list(dict.fromkeys(cell.network for cell in cells))
    figure, axes = plt.subplots(1, len(networks), figsize=(9, 3.6), sharey=True, layout="constrained")
    for ax, network in zip(axes, networks, strict=True):
        mine = [cell for cell in cells if cell.network == network]
        for colour, link in zip(("C0", "C1"), dict.fromkeys(cell.link for cell in mine), strict=False):
            row = [cell for cell in mine if cell.link == link]
            counts = [cell.followers for cell in row]
            ax.plot(counts, [cell.published_s for cell in row], "o", color=colour, label=f"published, {link}")
            ax.plot(counts, [cell.predicted_s for cell in row], "-", color=colour, label=f"predicted, {link}")
        ax.set(title=network, xlabel="followers", xticks=range(1, 5))
        ax.grid(alpha=0.3)
    axes[0].set(ylabel="seconds", ylim=(0, None))
    axes[-1].legend(fontsize=8)
    figure.savefig(path, dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    main()
