"""``edgeflow demo``: run two models on two photographs, with three local workers of unequal speed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from edgeflow.cli import options, screen
from edgeflow.cli.files import make_folder, writing
from edgeflow.cli.screen import say, say_json
from edgeflow.demo.job import ONE_DEVICE, PLAIN, SPLIT, DemoReport, ModelReport, run_model
from edgeflow.demo.workers import demo_cluster, local_workers
from edgeflow.units import format_bytes, format_seconds

if TYPE_CHECKING:
    from edgeflow.openworld.growth import OpenWorldReport

MODELS = ("openworld-base", "resnet50")


def demo(
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FOLDER", help="Folder for plots and traces.")
    ] = Path("demo-output"),
    speeds: Annotated[
        str,
        typer.Option(
            metavar="S,S,...", help="Each worker's share of a core; a small share emulates a slow machine."
        ),
    ] = "1,0.6,0.4",
    strategy: options.Strategy = "auto",
    requests: Annotated[int, typer.Option(min=1, help="Number of timed requests of each plan.")] = 5,
    open_world: Annotated[
        bool,
        typer.Option(
            "--open-world", help="Instead, serve a stream in which a class appears that the model never saw."
        ),
    ] = False,
    json: options.Json = False,
) -> None:
    """Run two models on local workers: plan, predicted and measured time, difference, plots."""
    shares = tuple(options.parse_speeds(speeds))
    if open_world:
        _open_world(shares, strategy=strategy, json=json)
        return
    cluster = demo_cluster(shares)
    make_folder(output)
    if not json:
        say(_introduction(shares))
    reports = []
    with local_workers(shares, screen) as workers:
        for name in MODELS:
            report = run_model(
                name,
                cluster,
                workers,
                strategy=strategy,
                requests=requests,
                folder=output,
                progress=screen,
            )
            reports.append(report)
            if not json:
                say(_describe(report))
    result = DemoReport(num_cores=os.cpu_count() or 1, speeds=shares, models=tuple(reports))
    path = output / "demo.json"
    with writing(path):
        path.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=2) + b"\n")
    if json:
        say_json(result)
    if not all(report.passed for report in reports):
        raise typer.Exit(1)


def _open_world(shares: Sequence[float], *, strategy: str, json: bool) -> None:
    from edgeflow.demo.open_world import run_open_world

    report = run_open_world(shares, strategy=strategy, progress=screen)
    if json:
        say_json(report)
    else:
        say(_describe_open_world(report))
    if not report.passed:
        raise typer.Exit(1)


def _introduction(shares: Sequence[float]) -> str:
    return (
        f"{len(shares)} worker processes on this machine of {os.cpu_count()} cores, one thread each, limited "
        f"to {', '.join(f'{share:g}' for share in shares)} of a core.\n"
        "Predictions use the time of each operator measured alone on one core here. Times are medians of "
        "requests\nthat take turns; the weights are random, the photographs are real."
    )


def _describe(report: ModelReport) -> str:
    rows = [("", "predicted", "measured")]
    rows += [
        (f"{name}: {plan.chosen}", format_seconds(plan.predicted_latency_s), str(plan.measured))
        for name, plan in report.plans.items()
    ]
    rows.append((f"{PLAIN}, one thread, no workers", "", str(report.plain_pytorch)))
    width = max(len(row[0]) for row in rows)
    differences = [f"{name}: {plan.difference}" for name, plan in report.plans.items()]
    return "\n".join(
        [
            "",
            f"{report.model} ({report.num_operators} operators, weights {format_bytes(report.weight_bytes)})",
            "=" * 60,
            report.explanation.rstrip(),
            "",
            *(f"{what:{width}}  {predicted:>9}  {measured}".rstrip() for what, predicted, measured in rows),
            f"on this machine kernels take {report.contention:.2f} times as long while all workers compute; "
            "predictions include this",
            _verdict(report),
            "",
            *differences,
            *(f"{what}: {path}" for what, path in report.files.items()),
        ]
    )


def _verdict(report: ModelReport) -> str:
    """Return whether the strategy's choice was right, by the measured times."""
    speedup = report.speedup
    if speedup is None or ONE_DEVICE not in report.plans:
        return f"{report.strategy} chose {report.choice}; there is nothing to compare it with"
    was_right = (speedup >= 1) == (report.choice == SPLIT)
    return (
        f"measured, the split has {speedup:.2f} times the speed of one device; {report.strategy} chose "
        f"{'the split' if report.choice == SPLIT else 'one device'}, "
        f"{'rightly' if was_right else 'wrongly in this run'}"
    )


def _describe_open_world(report: OpenWorldReport) -> str:
    def change(before: float, after: float) -> str:
        return f"{100 * before:.1f} % before, {100 * after:.1f} % after"

    return "\n".join(
        [
            f"A model of {len(report.trained_classes)} classes, served by {report.plan}, met a class that it "
            "had never seen.",
            f"requests: {report.num_requests}, answered: {report.num_answered}; heads rolled out meanwhile: "
            f"{report.num_rolled_out}",
            f"the new class ({report.new_class!r}) got a prototype after {report.found_after} pictures; of "
            f"its rejected pictures, {100 * report.in_one_cluster:.1f} % are in one cluster, and "
            f"{100 * report.purity:.1f} % of that cluster are of the new class",
            f"accuracy on the new class: {change(report.new_before, report.new_after)}",
            f"accuracy on the old classes: {change(report.old_before, report.old_after)}",
            f"answers for old classes that changed: {100 * report.changed:.1f} %; their logits are "
            f"{'the same, bit for bit' if report.same_logits else 'NOT the same'}",
        ]
    )
