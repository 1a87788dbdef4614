"""How long simulations take, by devices and by requests; writes the curve as CSV and PNG.

Seconds are by the clock on the wall, of one thread: measure on an idle machine. Three plans, each driven at
70 % of what it can answer, by Poisson arrivals; the network is so fast (100 Gbit/s) that the interface of the
device where requests arrive is no bottleneck:

single     one device answers everything, however many there are
replicate  the whole model on every device, each request to the one expected to be done first
groups     rows over groups of four devices, each request to one group
"""

from __future__ import annotations

import argparse
import csv
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from result import Result

from edgeflow.cluster import Cluster
from edgeflow.cost import CostModel, predict
from edgeflow.graph.capture import capture
from edgeflow.graph.ir import ModelGraph
from edgeflow.plan import Decision, Plan, Weighed
from edgeflow.plan.stage import Shard, Stage
from edgeflow.planner import plan
from edgeflow.planner.layouts.layout import Layout
from edgeflow.planner.task import Run, Task, stages_of
from edgeflow.simulator import Poisson, simulate
from edgeflow.testing import zoo

MODEL = "tiny-resnet"
SPEEDS = (1.0, 0.6, 0.4, 0.25)
GROUP = 4
BANDWIDTH = "100 Gbit/s"
#: Devices, requests.
SIZES = (
    (1, 1_000), (1, 10_000), (1, 100_000),
    (10, 1_000), (10, 10_000), (10, 100_000),
    (100, 1_000), (100, 10_000), (100, 100_000),
    (1000, 1_000), (1000, 10_000), (1000, 100_000),
)  # fmt: skip
LOAD = 0.7


def run(seed: int) -> Iterator[Result]:
    """The smaller sizes; `python benchmarks/bench_simulator.py` runs all and draws the curve."""
    for row in measure([size for size in SIZES if size[0] <= 100 and size[1] <= 10_000], seed):
        values = {
            name: float(row[name]) for name in ("prepare_s", "simulate_s", "us_per_request", "peak_mib")
        }
        yield Result(
            benchmark="simulator",
            case=f"{row['plan']}, {row['devices']} devices, {row['requests']} requests",
            values=values,
            settings={"model": MODEL, "speeds": SPEEDS, "load": LOAD, "bandwidth": BANDWIDTH},
            seed=seed,
        )


def measure(sizes: list[tuple[int, int]], seed: int) -> Iterator[dict[str, float | int | str]]:
    """Yield one row per plan and size."""
    example = zoo.build(MODEL)
    graph = capture(example.module, example.args, example.kwargs, name=MODEL)
    made: dict[tuple[str, int], tuple[Plan, float, float]] = {}
    for devices, requests in sizes:
        for kind in ("single", "replicate", "groups"):
            if kind == "groups" and devices < GROUP:
                continue
            if (kind, devices) not in made:
                start = time.perf_counter()
                chosen = _plan(graph, devices, kind)
                rate = LOAD * sum(1 / predict(way, with_events=False).period_s for way in chosen.ways)
                made = {key: value for key, value in made.items() if key[1] == devices}
                made[kind, devices] = chosen, rate, time.perf_counter() - start
            chosen, rate, prepare_s = made[kind, devices]
            start = time.perf_counter()
            report = simulate(chosen, requests, arrivals=Poisson(rate, seed))
            seconds = time.perf_counter() - start
            yield {
                "plan": kind,
                "devices": devices,
                "requests": requests,
                "prepare_s": round(prepare_s, 3),
                "simulate_s": round(seconds, 3),
                "us_per_request": round(seconds / requests * 1e6, 1),
                "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
                "virtual_s": round(report.makespan_s, 3),
                "p95_latency_ms": round(report.p95_latency_s * 1e3, 3),
            }


def _plan(graph: ModelGraph, devices: int, kind: str) -> Plan:
    """One plan of the kind; ways of several groups are the first group's, on other devices."""
    cluster = Cluster.local([SPEEDS[rank % len(SPEEDS)] for rank in range(devices)], bandwidth=BANDWIDTH)
    if kind == "single":
        return plan(graph, cluster, "single")
    size = 1 if kind == "replicate" else GROUP
    part = Cluster.local(SPEEDS[:size], bandwidth=BANDWIDTH)
    # Not by a strategy: those may find one device of a group faster than all.
    layout = Layout(kind="rows" if size > 1 else "single", devices=tuple(range(size)), shares=SPEEDS[:size])
    task = Task(graph=graph, cluster=part, cost=CostModel(cluster=part))
    stages = stages_of(task, [Run(graph.operators, layout)])
    ways = [_moved(stages, start) for start in range(0, devices - size + 1, size)]
    return Plan(
        Decision(graph=graph, cluster=cluster, stages=ways[0], replicas=tuple(ways[1:])),
        Weighed(strategy=kind, chosen=kind),
    )


def _moved(stages: tuple[Stage, ...], first: int) -> tuple[Stage, ...]:
    return tuple(
        _with_shards(stage, tuple(Shard(shard.device + first, shard.outputs) for shard in stage.shards))
        for stage in stages
    )


def _with_shards(stage: Stage, shards: tuple[Shard, ...]) -> Stage:
    return Stage(name=stage.name, kind=stage.kind, operators=stage.operators, shards=shards)


def draw(rows: list[dict[str, float | int | str]], path: Path) -> None:
    """Plot seconds over requests: one line per cluster, one panel per plan."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.4), dpi=110, layout="constrained")
    kinds = list(dict.fromkeys(row["plan"] for row in rows))
    for ax, kind in zip(figure.subplots(1, len(kinds), sharey=True), kinds, strict=True):
        for index, devices in enumerate(sorted({row["devices"] for row in rows})):
            mine = [row for row in rows if row["plan"] == kind and row["devices"] == devices]
            if mine:
                xs, ys = ([row[key] for row in mine] for key in ("requests", "simulate_s"))
                ax.plot(xs, ys, marker="o", markersize=3, color=f"C{index}", label=f"{devices} devices")
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_title(str(kind), fontsize=10)
        ax.set_xlabel("requests")
        ax.grid(color="#e6e8eb", linewidth=0.7)
        ax.legend(frameon=False, fontsize=8)
    figure.supylabel("seconds of one thread", fontsize=9)
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--largest", type=int, default=100_000, help="requests")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    rows: list[dict[str, float | int | str]] = []
    options.output.mkdir(exist_ok=True)
    for row in measure([size for size in SIZES if size[1] <= options.largest], options.seed):
        rows.append(row)
        print("  ".join(f"{key} {value}" for key, value in row.items()), file=sys.stderr, flush=True)
        with (options.output / "simulator.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    draw(rows, options.output / "simulator.png")


if __name__ == "__main__":
    main()
