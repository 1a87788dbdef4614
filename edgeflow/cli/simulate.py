"""``edgeflow simulate``: run plans on a virtual clock, and compare them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.table import Table

from edgeflow.cli import options
from edgeflow.cli.files import check_writable, writing
from edgeflow.cli.models import load_subject
from edgeflow.cli.screen import counted, say_json, say_table
from edgeflow.errors import ConfigError, InfeasiblePlanError
from edgeflow.units import format_bytes, format_seconds


def simulate(
    model: options.Model,
    cluster: options.ClusterFile = None,
    speeds: options.Speeds = None,
    bandwidth: options.Bandwidth = None,
    latency: options.Latency = None,
    memory: options.Memory = None,
    strategy: Annotated[
        str, typer.Option(metavar="S,S,...", help="Planning strategies to compare; `all` compares every one.")
    ] = "auto",
    objective: options.Objective = "latency",
    requests: Annotated[
        int | None,
        typer.Option(help="Number of requests. (default: 100, or all of a trace)", show_default=False),
    ] = None,
    arrivals: Annotated[
        str, typer.Option(help="closed:N (N in flight), every:DURATION, poisson:N/s, or trace:FILE.")
    ] = "closed:1",
    scenario: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Changes of networks, speeds and devices during the run (YAML).",
            show_default=False,
        ),
    ] = None,
    policy: Annotated[
        bool, typer.Option("--policy", help="Re-plan from measured speeds when that pays.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of random arrivals.")] = 0,
    trace: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the timeline as a Chrome trace.", show_default=False),
    ] = None,
    json: options.Json = False,
) -> None:
    """Run plans on a virtual clock, and compare their latency, throughput and energy."""
    from edgeflow.planner import strategies
    from edgeflow.simulator import Recorded, SimulationReport, load_scenario, parse_arrivals

    whole = options.choose_cluster(
        cluster, speeds=speeds, bandwidth=bandwidth, latency=latency, memory=memory
    )
    assert whole is not None
    names = list(strategies()) if strategy == "all" else [name.strip() for name in strategy.split(",")]
    for name in names:
        if name not in strategies():
            raise ConfigError(f"no strategy {name!r}; known: {', '.join(strategies())}")
    if trace is not None and len(names) > 1:
        raise typer.BadParameter(f"--trace is for one strategy, got {len(names)}")
    check_writable(trace)
    arrive = parse_arrivals(arrivals, seed=seed)
    if requests is None:
        requests = len(arrive.times_s) if isinstance(arrive, Recorded) else 100
    conditions = None if scenario is None else load_scenario(scenario)
    subject = load_subject(model)
    reports: dict[str, SimulationReport | InfeasiblePlanError] = {}
    for name in counted(names, what="simulating", total=len(names)):
        try:
            reports[name] = _one(
                subject.graph, whole, name, objective, requests, arrive, conditions, policy, trace is not None
            )
        except InfeasiblePlanError as error:
            if len(names) == 1:
                raise
            reports[name] = error
    failures = [item for item in reports.values() if isinstance(item, InfeasiblePlanError)]
    if len(failures) == len(names):
        raise failures[0]
    if trace is not None:
        report = reports[names[0]]
        assert isinstance(report, SimulationReport)
        _write_trace(trace, report)
    if json:
        say_json([_described(name, report) for name, report in reports.items()])
    else:
        say_table(_table(reports, f"{subject.name}, {requests} requests, {arrivals}"))


def _one(
    graph: Any,
    cluster: Any,
    strategy: str,
    objective: str,
    requests: int,
    arrivals: Any,
    scenario: Any,
    with_policy: bool,
    with_events: bool,
) -> Any:
    import edgeflow as ef
    from edgeflow.simulator import MeasuredSpeeds, Scenario

    conditions = scenario or Scenario()
    conditions.check(cluster)
    plan = ef.plan(graph, conditions.initial(cluster), strategy=strategy, objective=objective)
    watcher = MeasuredSpeeds() if with_policy else None
    return ef.simulate(
        plan,
        requests,
        arrivals=arrivals,
        scenario=conditions,
        cluster=cluster,
        balancer=watcher,
        replan=watcher.replan if watcher else None,
        with_events=with_events,
    )


def _write_trace(path: Path, report: Any) -> None:
    from edgeflow.telemetry import write_chrome_trace

    with writing(path):
        write_chrome_trace(path, report.events, report.device_names)


def _described(name: str, report: Any) -> dict[str, Any]:
    if isinstance(report, InfeasiblePlanError):
        return {"strategy": name, "problem": str(report)}
    kept = msgspec.structs.asdict(report)
    for key in ("events", "records", "latencies_s", "device_names"):
        del kept[key]
    return {"strategy": name, **kept}


def _table(reports: Any, title: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for column in ("strategy", "mean", "median", "95 %", "99 %", "answers/s", "energy", "bytes/request"):
        table.add_column(column, justify="left" if column == "strategy" else "right")
    for column in ("busiest", "replayed", "lost"):
        table.add_column(column, justify="right")
    for name, report in reports.items():
        if isinstance(report, InfeasiblePlanError):
            table.add_row(name, f"infeasible: {report}")
            continue
        busy = report.resource_busy_share
        busiest = max(sorted(busy), key=lambda item: busy[item])
        table.add_row(
            name,
            format_seconds(report.latency_s),
            *(format_seconds(report.percentiles_s[share]) for share in (50, 95, 99)),
            f"{report.throughput_per_s:.3g}",
            f"{report.energy_j:.3g} J",
            format_bytes(report.transferred_bytes / len(report.records)),
            f"{busiest} {busy[busiest]:.0%}",
            str(report.num_replayed),
            str(report.num_lost),
        )
    return table
