"""Sweep files: the parameters of a sweep in YAML; and its results as Parquet or CSV.

name: strategies
models: [tiny-resnet]                       # as the command line's MODEL
clusters:
  - {name: equal, speeds: [1, 1, 1]}        # bandwidth, latency and memory as for --speeds
  - {name: many, speeds: [1, 0.5], devices: 64}    # repeats the speeds
  - {name: home, file: home.yaml}
bandwidths: [1 Mbit/s, 1 Gbit/s]            # optional: each cluster with `speeds` at each bandwidth
strategies: all                             # or a list
objectives: [latency]
arrivals: ["closed:1"]
scenarios: [none, evening.yaml]
policies: [false, true]                     # re-plan from measured speeds
seeds: [0]
requests: 100
plots:                                      # see edgeflow.simulator.sweep_plot
  - {kind: winners, x: bandwidth, y: cluster, file: winners.png}
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from edgeflow.cluster.cluster import Cluster
from edgeflow.errors import ConfigError
from edgeflow.planner import strategies as known_strategies
from edgeflow.simulator.scenario import Scenario
from edgeflow.simulator.scenario_file import load_scenario
from edgeflow.simulator.sweep import Row, Setting, settings_of
from edgeflow.units import parse_bandwidth
from edgeflow.yaml_ import read_yaml


class PlotSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A picture of a sweep; see `edgeflow.simulator.sweep_plot`."""

    kind: str
    file: str
    x: str = "bandwidth"
    y: str = "cluster"
    value: str = "latency_s"
    of: str = "auto"
    title: str = ""
    where: Mapping[str, str | float] = {}


class _ClusterSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str
    file: str | None = None
    speeds: tuple[float, ...] | None = None
    devices: int | None = None
    bandwidth: str | float | None = None
    latency: str | float | None = None
    memory: str | int | None = None


class Sweep(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The content of a sweep file; paths are relative to the file."""

    models: tuple[str, ...]
    clusters: tuple[_ClusterSpec, ...]
    name: str = "sweep"
    bandwidths: tuple[str | float, ...] = ()
    strategies: str | tuple[str, ...] = "all"
    objectives: tuple[str, ...] = ("latency",)
    arrivals: tuple[str, ...] = ("closed:1",)
    scenarios: tuple[str, ...] = ("none",)
    policies: tuple[bool, ...] = (False,)
    seeds: tuple[int, ...] = (0,)
    requests: int = 100
    plots: tuple[PlotSpec, ...] = ()


def load_sweep(path: str | Path) -> Sweep:
    """Read a sweep file.

    Raises:
        ConfigError: If it is missing or malformed; the message names the file and the key.
    """
    path = Path(path)
    data = read_yaml(path, "sweep file")
    try:
        return msgspec.convert(data, Sweep)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {error}") from error


def expand(sweep: Sweep, folder: Path) -> list[Setting]:
    """Return the settings of a sweep: every combination of its parameters.

    Raises:
        ConfigError: If a file, a strategy or a quantity is wrong.
    """
    clusters: list[Cluster] = []
    labels: dict[int, Mapping[str, str | float]] = {}
    for spec in sweep.clusters:
        for cluster, columns in _clusters(spec, sweep.bandwidths, folder):
            labels[len(clusters)] = columns
            clusters.append(cluster)
    names = tuple(known_strategies()) if sweep.strategies == "all" else sweep.strategies
    if isinstance(names, str):
        raise ConfigError(f"strategies: expected `all` or a list, got {names!r}")
    for name in names:
        if name not in known_strategies():
            raise ConfigError(f"no strategy {name!r}; known: {', '.join(known_strategies())}")
    scenarios: list[Scenario | None] = [
        None if name == "none" else load_scenario(folder / name) for name in sweep.scenarios
    ]
    return settings_of(
        models=sweep.models,
        clusters=clusters,
        strategies=names,
        objectives=sweep.objectives,
        arrivals=sweep.arrivals,
        scenarios=scenarios,
        policies=sweep.policies,
        seeds=sweep.seeds,
        requests=sweep.requests,
        labels=labels,
    )


def _clusters(
    spec: _ClusterSpec, bandwidths: Sequence[str | float], folder: Path
) -> list[tuple[Cluster, Mapping[str, str | float]]]:
    if (spec.file is None) == (spec.speeds is None):
        raise ConfigError(f"cluster {spec.name!r}: give either `file` or `speeds`")
    given = {key: getattr(spec, key) for key in ("bandwidth", "latency", "memory")}
    given = {key: value for key, value in given.items() if value is not None}
    if spec.speeds is None:
        given |= {"devices": spec.devices} if spec.devices is not None else {}
        if given:
            raise ConfigError(f"cluster {spec.name!r}: {', '.join(given)} goes with `speeds` only")
        cluster = msgspec.structs.replace(Cluster.load(folder / str(spec.file)), name=spec.name)
        network = cluster.network
        return [(cluster, {"bandwidth": network.bandwidth_bytes_per_s if network else 0.0})]
    count = len(spec.speeds) if spec.devices is None else spec.devices
    speeds = [spec.speeds[rank % len(spec.speeds)] for rank in range(count)]
    made: list[tuple[Cluster, Mapping[str, str | float]]] = []
    for bandwidth in bandwidths or [given.get("bandwidth", "1 Gbit/s")]:
        settings = given | {"bandwidth": bandwidth}
        columns: dict[str, str | float] = {"bandwidth": parse_bandwidth(bandwidth)}
        made.append((Cluster.local(speeds, name=spec.name, **settings), columns))
    return made


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write results: Parquet if the name ends in ``.parquet``, else CSV.

    Raises:
        ConfigError: If Parquet is wanted and pyarrow is not installed.
    """
    if path.suffix != ".parquet":
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]) if rows else [], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        return
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise ConfigError("writing Parquet needs pyarrow: pip install 'edgeflow-inference[ray]'") from error
    table: Any = pyarrow.Table.from_pylist(list(rows))
    parquet.write_table(table, path)
