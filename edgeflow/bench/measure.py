"""Measure rows in turn: every row once per round, so that other load on the machine affects all alike.

A few rows run in each group, fewer if memory is short; each group includes the baselines on one device.
"""

from __future__ import annotations

import socket
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import psutil
import torch

import edgeflow as ef
from edgeflow.bench.child import Child
from edgeflow.bench.loopback import measure_contention, measure_loopback
from edgeflow.bench.machine import cores, pinned, place
from edgeflow.bench.results import ModelResult, RankTime, RowResult, Seconds, with_ratios
from edgeflow.bench.rows import BASELINES, NETWORKS, Row
from edgeflow.bench.subject import Job
from edgeflow.cluster.network import Link
from edgeflow.cost.model import CostModel
from edgeflow.errors import ConfigError, EdgeflowError
from edgeflow.graph.compare import compare, leaves
from edgeflow.plan import Plan
from edgeflow.telemetry.timing import in_turn
from edgeflow.testing import netns, zoo

#: Rows that differ from one device by more than this, relative to the largest value, are wrong.
TOLERANCE = 1e-3

#: Most rows in a group, besides the baselines. Idle processes still use some time: in a group of 20, rows
#: that need two cores took up to a quarter longer.
_MAX_ROWS = 4

#: Share of the memory that must be free to start the processes of another row.
_ROOM_SHARE = 0.3


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
        runs: Number of counted rounds; one round before them is not counted.
        stream: Number of requests in a stream.
        executor: Back end of the workers, which is also the one calibrated.
        calibration_s: Time to calibrate slices of operators, and the same again for runs of operators.
        explain: Whether to break down the time of a request.
        say: Told of each step.
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
        loopback = measure_loopback(cost, cores(), executor=executor)
        contention = measure_contention(graph, example.args, example.kwargs, cores(), executor=executor)
        cost = msgspec.structs.replace(cost, contention=contention)
        results: dict[str, RowResult] = {}
        seen: dict[str, Rounds] = {}
        children: dict[str, Child] = {}
        for number, row in enumerate(rows):
            say(f"{model}: {row.name}")
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
                results[row.name], child = _begin(job, graph, cost, loopback, expected)
            except EdgeflowError as error:
                results[row.name], child = RowResult(row=row, skipped=str(error)), None
            if child is not None:
                held.callback(child.close)
                children[row.name] = child
            if number < len(rows) - 1 and len(children) < len(BASELINES) + _MAX_ROWS and _has_room():
                continue
            for name, rounds in measure_rounds(
                children, runs=runs, say=lambda text: say(f"{model}: {text}")
            ).items():
                seen[name] = rounds if name not in seen else seen[name].and_then(rounds)
                times = children[name].explain() if explain and not rounds.failure else ()
                results[name] = _with_rounds(results[name], seen[name], times)
            for name in [name for name in children if name not in BASELINES]:
                children.pop(name).close()
    return ModelResult(
        model=model,
        rows=with_ratios([results[row.name] for row in rows], BASELINES),
        loopback=loopback,
        contention=contention,
    )


class Rounds(msgspec.Struct, frozen=True):
    """Timings of the rounds of one row; the reason if it stopped."""

    latencies: tuple[float, ...] = ()
    periods: tuple[float, ...] = ()
    failure: str = ""

    def and_then(self, later: Rounds) -> Rounds:
        return Rounds(
            self.latencies + later.latencies, self.periods + later.periods, self.failure or later.failure
        )


def _begin(
    job: Job, graph: ef.ModelGraph, cost: CostModel, loopback: Link, expected: list[Any]
) -> tuple[RowResult, Child | None]:
    """Start a row; return no child if its answer is wrong."""
    result = RowResult(row=job.row)
    job.folder.mkdir()
    if job.row.kind == "edgeflow":
        plan = _plan(graph, job.row, cost, loopback)
        plan.save(job.plan)
        result = _with_plan(result, plan)
    child = Child(job)
    difference = compare(child.answer, expected, tolerance=TOLERANCE)
    result = msgspec.structs.replace(result, error=difference.relative)
    if difference.passed:
        return result, child
    child.close()
    wrong = f"wrong: differs by {difference.relative:.2g} from one device"
    return msgspec.structs.replace(result, skipped=wrong), None


def _with_rounds(result: RowResult, rounds: Rounds, times: tuple[RankTime, ...]) -> RowResult:
    if rounds.failure:
        return msgspec.structs.replace(result, skipped=rounds.failure)
    return msgspec.structs.replace(
        result, latency=Seconds.of(rounds.latencies), period=Seconds.of(rounds.periods), times=times
    )


def _has_room() -> bool:
    """Return whether memory suffices for the processes of another row."""
    memory = psutil.virtual_memory()
    return bool(memory.available > _ROOM_SHARE * memory.total)


def measure_rounds(
    children: Mapping[str, Any], *, runs: int, say: Callable[[str], None]
) -> dict[str, Rounds]:
    """Return the timings of every row in each round; one round before them is not counted.

    A row that fails is left out of the rounds behind, the others go on.
    """
    failures: dict[str, str] = {}

    def once(name: str, child: Any) -> tuple[float, float] | None:
        if name in failures:
            return None
        try:
            return child.latency_s(), child.stream_s()
        except EdgeflowError as error:
            failures[name] = str(error)
            return None

    found = in_turn(
        {name: partial(once, name, child) for name, child in children.items()},
        rounds=runs,
        on_round=lambda done, total: say(f"{done} of {total} rounds"),
    )
    return {
        name: Rounds(
            tuple(latency_s for latency_s, _ in filter(None, figures)),
            tuple(period_s for _, period_s in filter(None, figures)),
            failures.get(name, ""),
        )
        for name, figures in found.items()
    }


def export(example: zoo.Example, path: Path) -> None:
    """Write the model as an ONNX file, if torch can export it."""
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


def _plan(graph: ef.ModelGraph, row: Row, cost: CostModel, loopback: Link) -> Plan:
    link = NETWORKS[row.network].link(loopback)
    cluster = ef.Cluster.local(row.speeds, bandwidth=link.bandwidth_bytes_per_s, latency=link.latency_s)
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
    """Return a core for each device; for one process with several threads, one core per thread."""
    if row.network != "loopback" and (reason := netns.missing()):
        raise ConfigError(reason)
    return place((1.0,) * row.threads if row.threads > 1 else row.speeds, cores())


def _free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
