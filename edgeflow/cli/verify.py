"""``edgeflow verify``: compare a plan's answer with the answer of one device."""

from __future__ import annotations

from typing import Annotated

import typer

from edgeflow.cli import options
from edgeflow.cli.deployed import answering, where
from edgeflow.cli.models import load_subject
from edgeflow.cli.plans import make_plan
from edgeflow.cli.screen import say, say_json, waiting
from edgeflow.graph.compare import TOLERANCES, Difference, compare


def verify(
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
    tolerance: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            help="Largest difference, relative to the output's largest value; by default 1e-4, with float16 "
            "activations 1e-2, with int8 0.1.",
            show_default=False,
        ),
    ] = None,
    seed: options.Seed = 0,
    json: options.Json = False,
) -> None:
    """Run a plan and compare its answer with one device's; exit code 1 if the difference is too large.

    The plan always runs in this process, device by device; with --workers or --local it also runs on workers.
    The reference is the module itself; for an ONNX file, ONNX Runtime if it is installed; otherwise the graph
    without a plan.
    """
    import edgeflow as ef

    shapes = options.parse_input_shapes(input_shape)
    addresses = options.parse_workers(workers, local=local)
    options.choose_transport(transport, on_workers=local or addresses is not None)
    access = options.choose_access(identity, token_file)
    chosen = options.choose_cluster(
        cluster, speeds=speeds, bandwidth=bandwidth, latency=latency, memory=memory, plan=plan
    )
    subject = load_subject(model, seed=seed, input_shapes=shapes)
    made = make_plan(subject, chosen, strategy=strategy, activations=activations, file=plan)
    if tolerance is None:
        tolerance = TOLERANCES[made.activations]
    with waiting("running one device's reference"):
        reference = subject.reference()
    expected = reference.answer

    found: dict[str, Difference] = {}
    with waiting(f"running in {where(workers=None, local=False)}"):
        found["in_process"] = compare(
            ef.execute(made, subject.args, subject.kwargs), expected, tolerance=tolerance
        )
    if addresses is not None or local:
        with (
            answering(made, workers=addresses, local=local, transport=transport, access=access) as answer,
            waiting("running on workers"),
        ):
            found["workers"] = compare(answer(subject.args, subject.kwargs), expected, tolerance=tolerance)

    passed = all(difference.passed for difference in found.values())
    if json:
        say_json(
            {
                "model": subject.name,
                "strategy": made.strategy,
                "num_devices": len(made.devices),
                "activations": made.activations,
                "reference": reference.by,
                "passed": passed,
                "differences": found,
            }
        )
    else:
        say(
            f"{subject.name} by {made.strategy} on {len(made.devices)} of {len(made.cluster.devices)} devices"
        )
        if made.activations:
            say(f"activations: {made.activations} on slow links, which contributes to the difference")
        say(f"reference: {reference.by}")
        say(f"{where(workers=None, local=False)}: {found['in_process']}")
        if "workers" in found:
            say(f"{where(workers=addresses, local=local)}: {found['workers']}")
    if not passed:
        raise typer.Exit(1)
