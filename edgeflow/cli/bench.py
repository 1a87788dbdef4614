"""``edgeflow bench``: compare one device, edgeflow on several devices, and other systems in one run."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.table import Table

from edgeflow.cli import options
from edgeflow.cli.files import check_writable
from edgeflow.cli.screen import note, say, say_json, say_table
from edgeflow.units import format_seconds

if TYPE_CHECKING:
    from edgeflow.bench.results import ModelResult, Report, RowResult, Seconds

#: ``--quick`` runs a small model on one device and on two.
_QUICK_MODEL = "tiny-resnet"
_QUICK_ROWS = "equal-2"


def bench(
    models: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,...",
            help="Models of the zoo. (default: the five of the README)",
            show_default=False,
        ),
    ] = None,
    rows: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,...",
            help="Rows to measure besides torch and onnxruntime. (default: all)",
            show_default=False,
        ),
    ] = None,
    runs: Annotated[int, typer.Option(min=1, help="Number of rounds; each row runs once per round.")] = 15,
    stream: Annotated[int, typer.Option(min=1, help="Number of requests in a stream.")] = 16,
    executor: Annotated[str, typer.Option(help="Back end of the workers.")] = "auto",
    quick: Annotated[
        bool, typer.Option("--quick", help="Try the command on a tiny model with few runs.")
    ] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Break down the time of a request on every device.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="Save as JSON, with a plot beside it.", show_default=False
        ),
    ] = None,
    json: options.Json = False,
) -> None:
    """Measure latency and throughput against one core and against other systems.

    Processes are pinned to cores, and rows run in turn. Speed-ups are over the faster of torch and
    onnxruntime on one core. Measure on an otherwise idle machine.
    """
    from edgeflow.bench.machine import environment
    from edgeflow.bench.measure import measure_model
    from edgeflow.bench.results import Report
    from edgeflow.bench.rows import MODELS, choose, rows_for

    check_writable(output)
    if quick:
        models, rows = models or _QUICK_MODEL, rows or _QUICK_ROWS
        runs, stream = min(runs, 2), min(stream, 3)
    names = models.split(",") if models else list(MODELS)
    chosen = {
        name: choose(rows_for(MODELS.get(name, "coedge")), rows.split(",") if rows else []) for name in names
    }
    where = environment()
    note(
        f"{where.processor}, {where.num_cores} cores, load {where.load:.2f}, "
        f"commit {where.commit or 'unknown'}"
    )
    report = Report(
        environment=where, settings={"runs": runs, "stream": stream, "executor": executor}, models=()
    )
    for name in names:
        found = measure_model(
            name,
            chosen[name],
            runs=runs,
            stream=stream,
            executor=executor,
            calibration_s=1.0 if quick else 10.0,
            explain=explain,
            say=note,
        )
        report = msgspec.structs.replace(report, models=(*report.models, found))
        if output is not None:  # save after every model: the next one may fail after minutes
            _save(report, output)
    if json:
        say_json(report)
        return
    for model in report.models:
        say_table(_table(model))
        if explain:
            say_table(_where_time_goes(model))
        for row in model.rows:
            if row.skipped:
                say(f"{row.row.name}: skipped: {row.skipped}")
        say()


def _save(report: Report, path: Path) -> None:
    path.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")
    if importlib.util.find_spec("matplotlib") is None:
        note("no plot: matplotlib is not installed")
        return
    from edgeflow.bench.plot import draw

    draw(report, path.with_suffix(".png"))


def _table(model: ModelResult) -> Table:
    table = Table(
        model.model,
        "latency",
        "range",
        "x",
        "predicted",
        "stream",
        "range",
        "x",
        "error",
        box=None,
        pad_edge=False,
    )
    for column in table.columns[1:]:
        column.justify = "right"
    for row in model.rows:
        if not row.skipped:
            table.add_row(*_cells(row))
    return table


def _cells(row: RowResult) -> tuple[str, ...]:
    predicted = "" if row.predicted_latency_s is None else format_seconds(row.predicted_latency_s)
    return (
        row.row.name,
        *_timing(row.latency),
        _number(row.speedup, "{:.2f}"),
        predicted,
        *_timing(row.period),
        _number(row.stream_speedup, "{:.2f}"),
        _number(row.error, "{:.1e}"),
    )


def _timing(seconds: Seconds | None) -> tuple[str, str]:
    if seconds is None:
        return "", ""
    return format_seconds(
        seconds.median_s
    ), f"{format_seconds(seconds.min_s)} - {format_seconds(seconds.max_s)}"


def _number(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)


def _where_time_goes(model: ModelResult) -> Table:
    table = Table(
        "one request", "rank", "compute", "pack", "send", "wait", "wire", "Python", box=None, pad_edge=False
    )
    for column in table.columns[1:]:
        column.justify = "right"
    for row in model.rows:
        for time in row.times:
            parts = (time.compute_s, time.pack_s, time.send_s, time.wait_s, time.wire_s, time.python_s)
            rank = "client" if time.rank < 0 else str(time.rank)
            table.add_row(row.row.name, rank, *(format_seconds(part) for part in parts))
    return table
