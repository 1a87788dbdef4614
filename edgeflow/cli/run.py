"""``edgeflow run``: answer requests with a plan."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from edgeflow.cli import options
from edgeflow.cli.deployed import answering, deployed, where
from edgeflow.cli.files import check_writable, writing
from edgeflow.cli.models import load_subject
from edgeflow.cli.plans import make_plan
from edgeflow.cli.screen import bar, say, say_json
from edgeflow.cli.stream import line
from edgeflow.demo.stream import stream
from edgeflow.errors import ConfigError
from edgeflow.graph.compare import leaves
from edgeflow.graph.ir import Array
from edgeflow.telemetry.timing import time_in_turn


def run(
    model: options.Model,
    input_shape: options.InputShape = None,
    cluster: options.ClusterFile = None,
    speeds: options.Speeds = None,
    bandwidth: options.Bandwidth = None,
    latency: options.Latency = None,
    memory: options.Memory = None,
    plan: options.PlanFile = None,
    strategy: options.Strategy = "auto",
    activations: options.Activations = "",
    workers: options.Workers = None,
    local: options.Local = False,
    transport: options.Transport = "auto",
    identity: options.Identity = None,
    token_file: options.TokenFile = None,
    requests: Annotated[int, typer.Option(min=1, help="Number of requests, one after the other.")] = 1,
    seconds: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            help="Repeat the request for this long instead, and report each second.",
            show_default=False,
        ),
    ] = None,
    balance: Annotated[
        bool, typer.Option("--balance", help="Re-plan when the speed of devices changes.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Save the last answer's tensors (.npz).",
            show_default=False,
        ),
    ] = None,
    seed: options.Seed = 0,
    json: options.Json = False,
) -> None:
    """Run a model with a plan, on the model's own example inputs.

    Without --workers and --local, the devices' parts run in this process, one after the other: the answer is
    right, the time says nothing about the cluster.
    """
    shapes = options.parse_input_shapes(input_shape)
    addresses = options.parse_workers(workers, local=local)
    options.choose_transport(transport, on_workers=local or addresses is not None)
    access = options.choose_access(identity, token_file)
    chosen = options.choose_cluster(
        cluster, speeds=speeds, bandwidth=bandwidth, latency=latency, memory=memory, plan=plan
    )
    check_writable(output)
    if seconds is not None and not (addresses or local):
        raise ConfigError("--seconds needs workers: give --workers or --local")
    subject = load_subject(model, seed=seed, input_shapes=shapes)
    made = make_plan(subject, chosen, strategy=strategy, activations=activations, file=plan)
    latest: Any = None
    if seconds is not None:
        with deployed(
            made, workers=addresses, local=local, transport=transport, access=access, balance=balance
        ) as session:
            seen = stream(
                session,
                lambda: session.run(*subject.args, **subject.kwargs),
                seconds=seconds,
                on_event=lambda event: say(line(event)),
            )
        say(f"{seen.answered} answered, {seen.failed} failed, {seen.changed} differed from the first")
        raise typer.Exit(1 if seen.failed or seen.changed or not seen.answered else 0)

    with (
        answering(made, workers=addresses, local=local, transport=transport, access=access) as answer,
        bar("requests") as move,
    ):

        def request() -> None:
            nonlocal latest
            latest = answer(subject.args, subject.kwargs)

        # The first of several is a warm-up and not counted.
        timing = time_in_turn(
            {"plan": request}, rounds=requests, warmup=1 if requests > 1 else 0, on_round=move
        )["plan"]

    outputs = list(leaves(latest))
    if output is not None:
        _save(outputs, output)
    if json:
        say_json(
            {
                "model": subject.name,
                "strategy": made.strategy,
                "where": where(workers=addresses, local=local),
                "predicted_latency_s": made.predicted_latency_s,
                "latency": timing,
                "outputs": [{"shape": array.shape, "dtype": str(array.dtype)} for array in outputs],
            }
        )
        return
    say(f"{subject.name} by {made.strategy}, in {where(workers=addresses, local=local)}")
    say(f"latency: {timing}")
    for index, array in enumerate(outputs):
        say(f"output {index}: {array.dtype}{list(array.shape)}")


def _save(outputs: Sequence[Array], path: Path) -> None:
    with writing(path), path.open("wb") as file:
        np.savez(file, *outputs)
