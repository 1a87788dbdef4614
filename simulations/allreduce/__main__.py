"""Which way to sum is fastest? Plans with one more all-reduce, simulated; see README.md.

python -m simulations.allreduce [--output FOLDER] [--small]
"""

from __future__ import annotations

import itertools
from functools import cache
from pathlib import Path

import msgspec
import torch
from torch import nn

from edgeflow.cluster import Cluster
from edgeflow.cost import CostModel
from edgeflow.graph.capture import capture
from edgeflow.graph.ir import ModelGraph
from edgeflow.plan import Decision, Plan, Weighed
from edgeflow.planner.layouts.layout import Layout
from edgeflow.planner.task import Run, Task, stages_of
from edgeflow.simulator import simulate
from edgeflow.simulator.sweep_plot import colours, figure
from simulations.command import Row, parser, write

REDUCES = ("direct", "scatter", "star")
NAMES = {"direct": "direct", "scatter": "reduce-scatter + all-gather", "star": "star"}
DEVICES = (2, 4, 8)
#: Tokens; a message is 64 floats of each.
TOKENS = (8, 32, 128, 512, 2048, 8192, 32768)
FEATURES = 64
#: (bandwidth, latency of a link): a LAN, and the wireless links of TPI-LLM (arXiv 2410.00531).
NETWORKS = (("1 Gbit/s", "0.1 ms"), ("300 Mbit/s", "1 ms"))


def main() -> None:
    options = parser(__doc__, Path(__file__).parent).parse_args()
    rows = measure(DEVICES[:1] if options.small else DEVICES, TOKENS[:2] if options.small else TOKENS)
    write(options.output / "results.csv", rows)
    draw(rows, options.output / "allreduce.png")


def measure(devices: tuple[int, ...], tokens: tuple[int, ...]) -> list[Row]:
    """Return a row for each network, number of devices, size and kind of all-reduce."""
    rows: list[Row] = []
    for (bandwidth, latency), count, length in itertools.product(NETWORKS, devices, tokens):
        cluster = network_only(Cluster.local([1.0] * count, bandwidth=bandwidth, latency=latency))
        for reduce in REDUCES:
            # Two models that differ in one pair of matrix products, so in one all-reduce.
            shorter, longer = (_plan(cluster, length, pairs, reduce) for pairs in (2, 3))
            cost = CostModel(cluster=cluster, message_overhead_s=0.0)
            runs = [simulate(plan, requests=1, cost=cost) for plan in (shorter, longer)]
            rows.append(
                {
                    "bandwidth": bandwidth,
                    "latency": latency,
                    "devices": count,
                    "message_bytes": length * FEATURES * 4,
                    "reduce": reduce,
                    "seconds": runs[1].latency_s - runs[0].latency_s,
                    "transferred_bytes": runs[1].transferred_bytes - runs[0].transferred_bytes,
                }
            )
    return rows


def network_only(cluster: Cluster) -> Cluster:
    """Return the cluster with devices that compute in no time, so that only the network counts."""
    fast = {"flops_per_second": 1e18, "memory_bandwidth_bytes_per_s": 1e18, "overhead_s": 0.0}
    devices = tuple(msgspec.structs.replace(device, **fast) for device in cluster.devices)
    return msgspec.structs.replace(cluster, devices=devices)


def _plan(cluster: Cluster, tokens: int, pairs: int, reduce: str) -> Plan:
    """Pairs of matrix products: the first by columns, the second by rows, whose partial sums are reduced."""
    graph = _graph(tokens, pairs)
    task = Task(graph=graph, cluster=cluster, cost=CostModel(cluster=cluster))
    layout = Layout(
        kind="tensor",
        devices=tuple(cluster.ranks),
        shares=(1.0,) * len(cluster.devices),
        reduce=reduce,  # type: ignore[arg-type]
    )
    runs = [Run(stretch, layout) for stretch in task.analysis.stretches]
    return Plan(
        Decision(graph=graph, cluster=cluster, stages=stages_of(task, runs)), Weighed(strategy=reduce)
    )


@cache
def _graph(tokens: int, pairs: int) -> ModelGraph:
    layers = [
        layer
        for _ in range(pairs)
        for layer in (nn.Linear(FEATURES, FEATURES), nn.ReLU(), nn.Linear(FEATURES, FEATURES))
    ]
    return capture(nn.Sequential(*layers).eval(), (torch.zeros(tokens, FEATURES),))


def draw(rows: list[Row], path: Path) -> None:
    """Plot seconds over message size: one row of panels per network, one panel per number of devices."""
    networks = list(dict.fromkeys((row["bandwidth"], row["latency"]) for row in rows))
    counts = list(dict.fromkeys(row["devices"] for row in rows))
    colour = colours(REDUCES)
    made = figure(3.2 * len(counts) + 0.4, 2.7 * len(networks) + 0.4)
    panels = made.subplots(len(networks), len(counts), squeeze=False, sharex=True, sharey=True)
    for (network, line), (count, column) in itertools.product(
        zip(networks, range(len(networks)), strict=True), zip(counts, range(len(counts)), strict=True)
    ):
        ax = panels[line][column]
        for reduce in REDUCES:
            mine = [
                row
                for row in rows
                if (row["bandwidth"], row["latency"]) == network
                and (row["devices"], row["reduce"]) == (count, reduce)
            ]
            ax.plot(
                [row["message_bytes"] for row in mine],
                [float(row["seconds"]) * 1e3 for row in mine],
                marker="o",
                markersize=3,
                label=NAMES[reduce],
                color=colour[reduce],
            )
        ax.set_xscale("log", base=2)
        ax.set_yscale("log")
        ax.set_title(f"{count} devices, {network[0]}, {network[1]}", fontsize=9)
        ax.grid(color="#e6e8eb", linewidth=0.7)
    made.supxlabel("bytes of the tensor", fontsize=9)
    made.supylabel("ms for one all-reduce", fontsize=9)
    panels[0][0].legend(frameon=False, fontsize=8)
    made.savefig(path)


if __name__ == "__main__":
    main()
