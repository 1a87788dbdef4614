"""``edgeflow sweep``: run many simulations, here, in processes or on Ray; write their results and plots."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeflow.cli import options
from edgeflow.cli.files import check_writable, make_folder, writing
from edgeflow.cli.models import load_subject
from edgeflow.cli.screen import counted, note, say, say_json


def sweep(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="The sweep's parameters (YAML).", show_default=False)
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Results, as .parquet or .csv. (default: results.csv beside FILE)",
            show_default=False,
        ),
    ] = None,
    workers: Annotated[int, typer.Option(help="Number of processes; 1 simulates in this process.")] = 1,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Run on a Ray cluster; `local` starts one here for this command.",
            show_default=False,
        ),
    ] = None,
    figures: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Folder for plots. (default: beside FILE)", show_default=False),
    ] = None,
    json: options.Json = False,
) -> None:
    """Simulate every combination that a sweep file describes."""
    from edgeflow.simulator.sweep import Row, run_sweep
    from edgeflow.simulator.sweep_file import expand, load_sweep, write_rows
    from edgeflow.simulator.sweep_plot import plot_sweep

    wanted = load_sweep(file)
    settings = expand(wanted, file.parent)
    results = output or file.parent / "results.csv"
    folder = figures or file.parent
    make_folder(folder)
    check_writable(results)
    graphs = {name: load_subject(name).graph for name in wanted.models}
    where = "ray" if ray is not None else "processes" if workers > 1 else "here"
    rows: dict[int, Row] = {}
    running = run_sweep(
        graphs,
        settings,
        where=where,  # type: ignore[arg-type]
        workers=workers,
        address=None if ray == "local" else ray,
    )
    for number, row in counted(running, what=wanted.name, total=len(settings)):
        rows[number] = row
    ordered = [rows[number] for number in sorted(rows)]
    with writing(results):
        write_rows(results, ordered)
    for plot in wanted.plots:
        with writing(folder / plot.file):
            plot_sweep(plot, ordered, folder / plot.file)
    if json:
        say_json(ordered)
    else:
        infeasible = sum(bool(row["problem"]) for row in ordered)
        say(f"{len(ordered)} simulations, {infeasible} of them infeasible")
        note(f"strategies: {', '.join(dict.fromkeys(row['strategy'] for row in ordered))}")
