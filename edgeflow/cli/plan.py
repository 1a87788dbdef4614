"""``edgeflow plan``: decide, explain, and save the decision."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeflow.cli import options
from edgeflow.cli.files import check_writable, writing
from edgeflow.cli.models import load_subject
from edgeflow.cli.plans import describe_plan, make_plan
from edgeflow.cli.screen import say, say_json


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
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Save the plan as JSON.", show_default=False),
    ] = None,
    json: options.Json = False,
) -> None:
    """Decide which device computes what, and explain it."""
    shapes = options.parse_input_shapes(input_shape)
    chosen = options.choose_cluster(
        cluster, speeds=speeds, bandwidth=bandwidth, latency=latency, memory=memory
    )
    check_writable(output)
    made = make_plan(load_subject(model, input_shapes=shapes), chosen, strategy=strategy, objective=objective)
    if output is not None:
        with writing(output):
            made.save(output)
    if json:
        say_json(describe_plan(made))
    else:
        say(made.explain())
