"""Plots of sweeps.

winners   a map: the strategy other than ``of`` with the least ``value`` at each x and y, and that value
regret    a map: how much worse the strategy ``of`` is than the best other one at each x and y
lines     one line per strategy: ``value`` over x, one panel per y

A plot uses the rows that match its ``where``; rows with the same strategy, x and y are averaged. Matplotlib
is imported when a plot is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, Final

from edgeflow.errors import ConfigError
from edgeflow.simulator.sweep import Row
from edgeflow.simulator.sweep_file import PlotSpec
from edgeflow.units import format_bandwidth, format_seconds

_COLOURS: Final = ("#3b75af", "#ef8636", "#519e3e", "#c53a32", "#8d69b8", "#84584e", "#d684bd", "#7f7f7f",
                   "#b6bd3a", "#39a7a7", "#1b2a49", "#e0a526", "#5b5f97", "#9c2f6b")  # fmt: skip


def plot_sweep(spec: PlotSpec, rows: Sequence[Row], path: Path) -> None:
    """Draw one plot.

    Raises:
        ConfigError: If the rows lack a column, there is no such kind, or matplotlib is not installed.
    """
    kinds: Mapping[str, Callable[[PlotSpec, Sequence[Row]], Any]] = {
        "winners": _winners,
        "regret": _regret,
        "lines": _lines,
    }
    if spec.kind not in kinds:
        raise ConfigError(f"no plot {spec.kind!r}; known: {', '.join(kinds)}")
    for column in (spec.x, spec.y, spec.value):
        if not rows or column not in rows[0]:
            raise ConfigError(f"plot {spec.kind!r}: the results have no column {column!r}")
    chosen = [row for row in rows if all(row.get(key) == value for key, value in spec.where.items())]
    if not chosen:
        raise ConfigError(f"plot {spec.kind!r}: no results where {dict(spec.where)}")
    kinds[spec.kind](spec, chosen).savefig(path)


def figure(width: float, height: float) -> Any:
    """Return an empty matplotlib figure that needs no window.

    Raises:
        ConfigError: If matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError("pictures need matplotlib: pip install 'edgeflow-inference[demo]'") from error
    return Figure(figsize=(width, height), dpi=110, layout="constrained")


def colours(names: Sequence[str]) -> dict[str, str]:
    """Return a colour for each name, the same in all plots of the same names."""
    return {name: _COLOURS[index % len(_COLOURS)] for index, name in enumerate(dict.fromkeys(names))}


def figures_of(rows: Sequence[Row], spec: PlotSpec) -> dict[tuple[Any, Any], dict[str, float]]:
    """Return (x, y) -> strategy -> mean of the value, without infeasible rows."""
    found: dict[tuple[Any, Any], dict[str, list[float]]] = {}
    for row in rows:
        cell = found.setdefault((row[spec.x], row[spec.y]), {})
        if row[spec.value] is not None:
            cell.setdefault(row["strategy"], []).append(row[spec.value])
    return {key: {name: fmean(values) for name, values in cell.items()} for key, cell in found.items()}


def _axes_of(cells: Mapping[tuple[Any, Any], object]) -> tuple[list[Any], list[Any]]:
    xs = list(dict.fromkeys(x for x, _ in cells))
    return (sorted(xs) if all(isinstance(x, int | float) for x in xs) else xs), list(
        dict.fromkeys(y for _, y in cells)
    )


def _winners(spec: PlotSpec, rows: Sequence[Row]) -> Any:
    cells = figures_of(rows, spec)
    xs, ys = _axes_of(cells)
    names = list(dict.fromkeys(row["strategy"] for row in rows if row["strategy"] != spec.of))
    colour = colours(names)
    made, ax = _map(spec, xs, ys)
    for (x, y), cell in cells.items():
        rivals = {name: value for name, value in cell.items() if name != spec.of}
        if not rivals:
            _cell(ax, xs.index(x), ys.index(y), "#ffffff", "none fits", "black")
            continue
        best = min(rivals.values())
        # Of equal strategies take the one listed first: simpler ones are listed first.
        ties = [name for name in names if rivals.get(name, math.inf) <= best * (1 + 1e-9)]
        label = ties[0] + ("" if len(ties) == 1 else f"\n(+{len(ties) - 1} equal)")
        _cell(ax, xs.index(x), ys.index(y), colour[ties[0]], f"{label}\n{_short(spec.value, best)}", "white")
    return made


def _regret(spec: PlotSpec, rows: Sequence[Row]) -> Any:
    cells = figures_of(rows, spec)
    xs, ys = _axes_of(cells)
    made, ax = _map(spec, xs, ys)
    for (x, y), cell in cells.items():
        mine = cell.get(spec.of)
        rivals = [value for name, value in cell.items() if name != spec.of]
        if mine is None or not rivals:
            _cell(ax, xs.index(x), ys.index(y), "#ffffff", "—", "black")
            continue
        share = mine / min(rivals) - 1
        colour = "#2b8a4b" if share < -0.005 else "#dfe8df" if share <= 0.005 else "#c53a32"
        _cell(
            ax, xs.index(x), ys.index(y), colour, f"{share:+.1%}", "white" if abs(share) > 0.005 else "black"
        )
    return made


def _map(spec: PlotSpec, xs: Sequence[Any], ys: Sequence[Any]) -> tuple[Any, Any]:
    made = figure(2.2 + 1.05 * len(xs), 1.3 + 0.62 * len(ys))
    ax = made.subplots()
    ax.set_xlim(-0.5, len(xs) - 0.5)
    ax.set_ylim(len(ys) - 0.5, -0.5)
    ax.set_xticks(range(len(xs)), [_tick(spec.x, x) for x in xs], fontsize=8)
    ax.set_yticks(range(len(ys)), [_tick(spec.y, y) for y in ys], fontsize=8)
    ax.set_xlabel(spec.x)
    ax.set_title(spec.title or f"{spec.kind}: {spec.value}", loc="left", fontsize=10)
    return made, ax


def _cell(ax: Any, column: int, row: int, colour: str, text: str, ink: str) -> None:
    ax.fill_between([column - 0.49, column + 0.49], row - 0.48, row + 0.48, color=colour, linewidth=0)
    ax.text(column, row, text, ha="center", va="center", fontsize=6.5, color=ink)


def _lines(spec: PlotSpec, rows: Sequence[Row]) -> Any:
    cells = figures_of(rows, spec)
    xs, ys = _axes_of(cells)
    colour = colours([row["strategy"] for row in rows])
    columns = 2 if len(ys) == 4 else min(len(ys), 3)
    lines, width = -(-len(ys) // columns), 3.6 * columns
    made = figure(width, 0.3 + 3.0 * lines)
    panels = made.subplots(lines, columns, squeeze=False).flatten()
    for ax, y in zip(panels, ys, strict=False):
        for name in colour:
            points = [(x, cells[x, y][name]) for x in xs if name in cells.get((x, y), {})]
            if points:
                style = {"linewidth": 2.4, "linestyle": "--"} if name == spec.of else {"linewidth": 1.4}
                ax.plot(
                    *zip(*points, strict=True),
                    marker="o",
                    markersize=3,
                    label=name,
                    color=colour[name],
                    **style,
                )
        if all(isinstance(x, int | float) and x > 0 for x in xs):
            ax.set_xscale("log", base=2 if spec.x == "devices" else 10)
            ax.set_xticks(xs, [_tick(spec.x, x) for x in xs], fontsize=7)
            ax.minorticks_off()
        if all(value > 0 for cell in cells.values() for value in cell.values()):
            ax.set_yscale("log")
        ax.set_title(_tick(spec.y, y), fontsize=9)
        ax.set_xlabel(spec.x)
        ax.grid(color="#e6e8eb", linewidth=0.7)
    for ax in panels[len(ys) :]:
        ax.set_axis_off()
    panels[0].set_ylabel(spec.value)
    handles, labels = panels[0].get_legend_handles_labels()
    made.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=max(2, int(width / 1.4)),
        frameon=False,
        fontsize=8,
    )
    if spec.title:
        made.suptitle(spec.title, x=0.01, ha="left", fontsize=10)
    return made


def _tick(column: str, value: Any) -> str:
    if column == "bandwidth" and isinstance(value, int | float):
        return format_bandwidth(value)
    return str(value)


def _short(column: str, value: float) -> str:
    return format_seconds(value) if column.endswith("_s") else f"{value:.3g}"
