"""Measure rows in turn: every row once a round, so that what else the machine does meets all alike."""

from __future__ import annotations

import socket
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import msgspec
import torch

import edgeflow as ef
from edgeflow.bench.child import Child
from edgeflow.bench.machine import cores, pinned, place
from edgeflow.bench.results import ModelResult, RowResult, Seconds, with_ratios
from edgeflow.bench.rows import BASELINES, NETWORKS, Row
from edgeflow.bench.subject import Job
from edgeflow.cli.compare import compare, leaves
from edgeflow.errors import ConfigError, EdgeflowError
from edgeflow.plan import Plan
from edgeflow.testing import netns, zoo

#: Rows that differ from one device by more than this, relative to the largest value, are wrong.
TOLERANCE = 1e-3


def measure_model(
    model: str,
    rows: Sequence[Row],
    *,
    runs: int,
    stream: int,
    executor: str,
    calibration_s: float,
    explain: bool,
    say: Callable[[str], None] = lambda text: None,
) -> ModelResult:
    """Return every row of a model, in order.

    Args:
        runs: Rounds that count; one before them does not.
        stream: Requests of a stream.
        executor: Of the workers; the one that is calibrated.
        calibration_s: For slices of operators, and again for runs of them.
        explain: Whether to say where the time of a request goes.
        say: Told what is going on.
    """
    example = zoo.build(model)
    with torch.inference_mode():
        expected = list(leaves(example.module(*example.args, **example.kwargs)))
    with tempfile.TemporaryDirectory(prefix="edgeflow-bench-") as name, ExitStack() as held:
        folder = Path(name)
        say(f"{model}: capture and calibration")
        graph = ef.capture(example.module, example.args, example.kwargs, name=model)
        ef.save_graph(graph, folder / "graph.safetensors")
        export(example, folder / "model.onnx")
        with pinned(cores()[:1]):
            cost = ef.calibrate(
                graph,
                ef.Cluster.local([1.0]),
                example.args,
                example.kwargs,
                executor=executor,
                slices_s=calibration_s,
                runs_s=calibration_s,
            )
        results: dict[str, RowResult] = {}
        children: dict[str, Child] = {}
        for number, row in enumerate(rows):
            say(f"{model}: {row.name}")
            result = RowResult(row=row)
            try:
                job = Job(
                    row=row,
                    model=model,
                    graph=folder / "graph.safetensors",
                    onnx=folder / "model.onnx",
                    plan=folder / f"plan{number}.json",
                    cores=_cores(row),
                    port=_free_port(),
                    stream=stream,
                    executor=executor,
                    folder=folder / f"row{number}",
                )
                job.folder.mkdir()
                if row.kind == "edgeflow":
                    plan = _plan(graph, row, cost)
                    plan.save(job.plan)
                    result = _with_plan(result, plan)
                child = Child(job)
                held.callback(child.close)
            except EdgeflowError as error:
                results[row.name] = msgspec.structs.replace(result, skipped=str(error))
                continue
            difference = compare(child.answer, expected, tolerance=TOLERANCE)
            results[row.name] = msgspec.structs.replace(result, error=difference.relative)
            if difference.passed:
                children[row.name] = child
            else:
                results[row.name] = msgspec.structs.replace(
                    results[row.name], skipped=f"wrong: differs by {difference.relative:.2g} from one device"
                )
                child.close()
        timings = in_turn(children, runs=runs, say=lambda text: say(f"{model}: {text}"))
        for name, (latencies, periods, failure) in timings.items():
            if failure:
                results[name] = msgspec.structs.replace(results[name], skipped=failure)
                continue
            results[name] = msgspec.structs.replace(
                results[name],
                latency=Seconds.of(latencies),
                period=Seconds.of(periods),
                times=children[name].explain() if explain else (),
            )
    return ModelResult(model=model, rows=with_ratios([results[row.name] for row in rows], BASELINES))


def in_turn(
    children: Mapping[str, Any], *, runs: int, say: Callable[[str], None]
) -> dict[str, tuple[list[float], list[float], str]]:
    """Return name -> latencies, periods, and why it stopped if it did; one round before does not count."""
    found: dict[str, tuple[list[float], list[float], str]] = {name: ([], [], "") for name in children}
    for number in range(runs + 1):
        say(f"round {number} of {runs}")
        for name, child in children.items():
            latencies, periods, failure = found[name]
            if failure:
                continue
            try:
                latency_s, period_s = child.latency_s(), child.stream_s()
            except EdgeflowError as error:
                found[name] = (latencies, periods, str(error))
                continue
            if number:
                latencies.append(latency_s)
                periods.append(period_s)
    return found


def export(example: zoo.Example, path: Path) -> None:
    """Write the model as torch exports it; no file where it does not."""
    import contextlib
    import io
    import logging

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with (
        warnings.catch_warnings(),
        contextlib.suppress(Exception),  # many kinds; the row says that there is no file
        contextlib.redirect_stdout(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        torch.onnx.export(
            example.module, example.args, path, kwargs=example.kwargs, dynamo=True, verbose=False
        )


def _plan(graph: ef.ModelGraph, row: Row, cost: Any) -> Plan:
    network = NETWORKS[row.network]
    cluster = ef.Cluster.local(row.speeds, bandwidth=network.bandwidth, latency=network.latency)
    known = msgspec.structs.replace(cost, cluster=cluster)
    return ef.plan(graph, cluster, strategy=row.strategy, objective=row.objective, cost=known)


def _with_plan(result: RowResult, plan: Plan) -> RowResult:
    return msgspec.structs.replace(
        result,
        predicted_latency_s=plan.predicted_latency_s,
        predicted_period_s=plan.predicted_period_s,
        plan=plan.chosen or plan.strategy,
    )


def _cores(row: Row) -> tuple[int, ...]:
    """A core for each device; as many as there are threads where one process has several."""
    if row.network != "loopback" and (reason := netns.missing()):
        raise ConfigError(reason)
    return place((1.0,) * row.threads if row.threads > 1 else row.speeds, cores())


def _free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
