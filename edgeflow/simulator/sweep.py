"""Sweeps: many independent simulations, run in this process, in several processes, or on Ray."""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from multiprocessing import get_context
from typing import Any, Final, Literal

import msgspec

from edgeflow.cluster.cluster import Cluster
from edgeflow.errors import ConfigError, InfeasiblePlanError
from edgeflow.graph.ir import ModelGraph
from edgeflow.planner import plan as make_plan
from edgeflow.simulator.arrivals import parse_arrivals
from edgeflow.simulator.policy import MeasuredSpeeds
from edgeflow.simulator.scenario import Scenario
from edgeflow.simulator.simulate import simulate

Where = Literal["here", "processes", "ray"]
#: A row of results: names of columns -> text, numbers, or None.
Row = dict[str, Any]

#: Bytes of the object store of a Ray started here: graphs are small.
_OBJECT_STORE_BYTES: Final = 200 * 2**20


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """One simulation of a sweep.

    Attributes:
        model: Name of one of the sweep's graphs.
        arrivals: As `edgeflow.simulator.parse_arrivals` reads them.
        scenario: Changes of speeds, networks and devices.
        with_policy: Whether `MeasuredSpeeds` re-plans.
        seed: Seed of the arrivals.
        labels: Columns of the row that describe the setting, besides its fields.
    """

    model: str
    cluster: Cluster
    strategy: str
    objective: str = "latency"
    requests: int = 100
    arrivals: str = "closed:1"
    scenario: Scenario | None = None
    with_policy: bool = False
    seed: int = 0
    labels: Mapping[str, str | float] = {}


def run_setting(graph: ModelGraph, setting: Setting) -> Row:
    """Plan and simulate one setting; an infeasible one gives its reason in the column ``problem``.

    Raises:
        ConfigError: If the setting is wrong.
    """
    row: Row = {
        "model": setting.model,
        "cluster": setting.cluster.name,
        "devices": len(setting.cluster.devices),
        "strategy": setting.strategy,
        "objective": setting.objective,
        "requests": setting.requests,
        "arrivals": setting.arrivals,
        "scenario": setting.scenario.name if setting.scenario else "",
        "policy": setting.with_policy,
        "seed": setting.seed,
        **setting.labels,
        **dict.fromkeys(_RESULTS),
        "chosen": "",
        "problem": "",
    }
    scenario = setting.scenario or Scenario()
    policy = MeasuredSpeeds() if setting.with_policy else None
    try:
        plan = make_plan(graph, scenario.initial(setting.cluster), setting.strategy, setting.objective)
        report = simulate(
            plan,
            setting.requests,
            arrivals=parse_arrivals(setting.arrivals, seed=setting.seed),
            scenario=scenario,
            cluster=setting.cluster,
            balancer=policy,
            replan=policy.replan if policy else None,
        )
    except InfeasiblePlanError as error:
        return {**row, "problem": str(error)}
    busy = report.resource_busy_share
    return {
        **row,
        "chosen": plan.chosen,
        "predicted_latency_s": plan.predicted_latency_s,
        "latency_s": report.latency_s,
        "p50_latency_s": report.percentiles_s[50],
        "p95_latency_s": report.p95_latency_s,
        "p99_latency_s": report.percentiles_s[99],
        "throughput_per_s": report.throughput_per_s,
        "energy_j": report.energy_j,
        "transferred_bytes": report.transferred_bytes,
        "peak_memory_bytes": max(report.peak_memory_bytes.values(), default=0),
        "used_devices": len(plan.devices),
        "bottleneck": max(sorted(busy), key=lambda name: busy[name], default=""),
        "num_switches": len(report.switches) - 1,
        "num_replayed": report.num_replayed,
        "num_lost": report.num_lost,
    }


_RESULTS: Final = (
    "predicted_latency_s",
    "latency_s",
    "p50_latency_s",
    "p95_latency_s",
    "p99_latency_s",
    "throughput_per_s",
    "energy_j",
    "transferred_bytes",
    "peak_memory_bytes",
    "used_devices",
    "bottleneck",
    "num_switches",
    "num_replayed",
    "num_lost",
)


def run_sweep(
    graphs: Mapping[str, ModelGraph],
    settings: Sequence[Setting],
    *,
    where: Where = "here",
    workers: int | None = None,
    address: str | None = None,
) -> Iterator[tuple[int, Row]]:
    """Run settings; yield each one's number and its row, in the order of completion.

    Args:
        graphs: By the name that settings use.
        where: ``here``: one after the other. ``processes``: in processes on this machine. ``ray``: on Ray.
        workers: Most settings at once; by default one per core of this machine. A running Ray cluster decides
            for itself.
        address: Address of a running Ray cluster; by default one is started here for this sweep.

    Raises:
        ConfigError: If a setting is wrong, or Ray is wanted and not installed or not reached.
    """
    for setting in settings:
        if setting.model not in graphs:
            raise ConfigError(f"no model {setting.model!r} in the sweep; known: {', '.join(graphs)}")
    if workers is not None and workers < 1:
        raise ConfigError(f"workers must be at least 1, got {workers}")
    count = workers or os.cpu_count() or 1
    # A simulation needs no output structure of the module's own types, so it need not travel.
    graphs = {name: replace(graph, unflatten=None) for name, graph in graphs.items()}
    match where:
        case "here":
            for number, setting in enumerate(settings):
                yield number, run_setting(graphs[setting.model], setting)
        case "processes":
            yield from _in_processes(graphs, settings, count)
        case "ray":
            yield from _on_ray(graphs, settings, count, address)


_GRAPHS: dict[str, ModelGraph] = {}


def _keep(graphs: Mapping[str, ModelGraph]) -> None:
    """Keep the graphs in a worker process, so that they travel once and not with every setting."""
    _GRAPHS.update(graphs)


def _run_kept(setting: Setting) -> Row:
    return run_setting(_GRAPHS[setting.model], setting)


def _in_processes(
    graphs: Mapping[str, ModelGraph], settings: Sequence[Setting], workers: int
) -> Iterator[tuple[int, Row]]:
    # Spawned, not forked, because torch and its threads may be loaded here.
    with ProcessPoolExecutor(
        min(workers, len(settings) or 1),
        mp_context=get_context("spawn"),
        initializer=_keep,
        initargs=(graphs,),
    ) as pool:
        numbers = {pool.submit(_run_kept, setting): number for number, setting in enumerate(settings)}
        try:
            for future in as_completed(numbers):
                yield numbers[future], future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _on_ray(
    graphs: Mapping[str, ModelGraph], settings: Sequence[Setting], workers: int, address: str | None
) -> Iterator[tuple[int, Row]]:
    records = logging.getLogRecordFactory()
    try:
        import ray
    except ImportError as error:
        raise ConfigError("sweeps on Ray need ray: pip install 'edgeflow-inference[ray]'") from error
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address is None:
        options |= {
            "num_cpus": workers,
            "include_dashboard": False,
            "object_store_memory": _OBJECT_STORE_BYTES,
        }
    try:
        ray.init(address=address, **options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ConfigError(f"cannot start or reach Ray at {address or 'this machine'}: {error}") from error
    try:
        task = ray.remote(num_cpus=1)(run_setting)
        kept = {name: ray.put(graph) for name, graph in graphs.items()}
        waiting = {
            task.remote(kept[setting.model], setting): number for number, setting in enumerate(settings)
        }
        while waiting:
            done, _ = ray.wait(list(waiting), num_returns=1)
            try:
                row = ray.get(done[0])
            except ray.exceptions.RayTaskError as error:
                raise error.cause if isinstance(error.cause, Exception) else error from None
            yield waiting.pop(done[0]), row
    finally:
        ray.shutdown()
        logging.setLogRecordFactory(records)  # Ray installs its own, which adds keys to each line


def settings_of(
    *,
    models: Sequence[str],
    clusters: Sequence[Cluster],
    strategies: Sequence[str],
    objectives: Sequence[str] = ("latency",),
    arrivals: Sequence[str] = ("closed:1",),
    scenarios: Sequence[Scenario | None] = (None,),
    policies: Sequence[bool] = (False,),
    seeds: Sequence[int] = (0,),
    requests: int = 100,
    labels: Mapping[int, Mapping[str, str | float]] | None = None,
) -> list[Setting]:
    """Return a setting for every combination of the given values.

    Args:
        labels: Index of a cluster -> further columns that describe it.
    """
    product = itertools.product(
        models, enumerate(clusters), strategies, objectives, arrivals, scenarios, policies, seeds
    )
    return [
        Setting(
            model=model,
            cluster=cluster,
            strategy=strategy,
            objective=objective,
            requests=requests,
            arrivals=arrival,
            scenario=scenario,
            with_policy=policy,
            seed=seed,
            labels=(labels or {}).get(position, {}),
        )
        for model, (position, cluster), strategy, objective, arrival, scenario, policy, seed in product
    ]
