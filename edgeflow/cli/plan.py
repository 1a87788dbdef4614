"""``edgeflow plan``: make a plan, explain it, and save it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from edgeflow.cli import options
from edgeflow.cli.files import check_writable, writing
from edgeflow.cli.models import load_subject
from edgeflow.cli.plans import describe_plan, make_front, make_plan
from edgeflow.cli.screen import say, say_json, say_table
from edgeflow.plan import Plan
from edgeflow.units import format_seconds, parse_seconds


def plan(
    model: options.Model,
    input_shape: options.InputShape = None,
    cluster: options.ClusterFile = None,
    speeds: options.Speeds = None,
    bandwidth: options.Bandwidth = None,
    latency: options.Latency = None,
    memory: options.Memory = None,
    strategy: options.Strategy = "auto",
    objective: options.Objective = "latency",
    deadline: options.Deadline = None,
    activations: options.Activations = "",
    batch: options.Batch = 1,
    pareto: Annotated[
        bool,
        typer.Option("--pareto", help="Show the Pareto front of latency, throughput and energy."),
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Save the plan as JSON.", show_default=False),
    ] = None,
    json: options.Json = False,
) -> None:
    """Decide which device computes which part of a model, and explain the plan."""
    shapes = options.parse_input_shapes(input_shape)
    chosen = options.choose_cluster(
        cluster, speeds=speeds, bandwidth=bandwidth, latency=latency, memory=memory
    )
    if pareto and (output is not None or deadline is not None or strategy != "auto" or activations):
        raise typer.BadParameter("--pareto excludes --output, --deadline, --strategy and --activations")
    check_writable(output)
    deadline_s = None if deadline is None else parse_seconds(deadline, what="--deadline")
    subject = load_subject(model, input_shapes=shapes)
    if batch > 1:
        subject = replace(subject, graph=subject.batch(batch).graph)
    if pareto:
        front = make_front(subject, chosen)
        if json:
            say_json([describe_plan(item) for item in front])
        else:
            say_table(_table(front))
        return
    made = make_plan(
        subject,
        chosen,
        strategy=strategy,
        objective=objective,
        deadline_s=deadline_s,
        activations=activations,
    )
    if output is not None:
        with writing(output):
            made.save(output)
    if json:
        say_json(describe_plan(made))
    else:
        say(made.explain())


def _table(front: Sequence[Plan]) -> Table:
    table = Table("latency", "requests/s", "J/request", "devices", "plan", box=None, pad_edge=False)
    for column in table.columns[:4]:
        column.justify = "right"
    for item in front:
        per_s = 1 / item.predicted_period_s if item.predicted_period_s > 0 else float("inf")
        table.add_row(
            format_seconds(item.predicted_latency_s),
            f"{per_s:,.1f}",
            f"{item.predicted_energy_j:.3g}",
            str(len(item.devices)),
            item.chosen,
        )
    return table
