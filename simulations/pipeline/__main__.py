"""Pipelines or replicas? Throughput over memory, bandwidth and devices; see README.md.

python -m simulations.pipeline [--output FOLDER] [--small]
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Final

import edgeflow as ef
from edgeflow.cluster import Cluster
from edgeflow.errors import InfeasiblePlanError
from edgeflow.graph.ir import ModelGraph
from edgeflow.simulator import ClosedLoop
from edgeflow.simulator.sweep_plot import colours, figure
from edgeflow.testing import zoo
from simulations.command import Row, distinct, finish, parser, where, write
from simulations.deepthings.fusion import graph as yolo_layers

#: ViT-B's tokens take as many bytes as its image; YOLOv2's first layers make 1.5 MB of 4.4 MB.
MODELS: Final = {"ViT-B/16": lambda: _from_zoo("hf-vit-base"), "YOLOv2, first 16 layers": yolo_layers}
STRATEGIES: Final = ("single", "replicate", "pipeline", "auto")
#: Of a desktop core; boards of 0.8 to 3.2 GFLOP/s.
MIXES: Final = {
    "4 equal boards": (0.04, 0.04, 0.04, 0.04),
    "4 unequal boards": (0.08, 0.04, 0.04, 0.02),
    "8 unequal boards": (0.08, 0.08, 0.04, 0.04, 0.04, 0.04, 0.02, 0.02),
}
BANDWIDTHS = ("1 Mbit/s", "5 Mbit/s", "20 Mbit/s", "100 Mbit/s", "1 Gbit/s")
#: Memory of every device, as a share of the memory that the whole model needs.
MEMORIES = (1.5, 0.6, 0.3)
#: Requests, and requests in flight per device: enough to keep every device busy.
REQUESTS: Final = 200
IN_FLIGHT: Final = 4


def main() -> None:
    options = parser(__doc__, Path(__file__).parent).parse_args()
    if options.small:
        graph = _from_zoo("tiny-vit")
        rows = measure("tiny-vit", graph, list(MIXES)[:1], BANDWIDTHS[3:4], MEMORIES[:2], requests=20)
    else:
        rows = [
            row
            for name, make in MODELS.items()
            for row in measure(name, make(), list(MIXES), BANDWIDTHS, MEMORIES, requests=REQUESTS)
        ]
    write(options.output / "results.csv", rows)
    draw(rows, options.output / "pipeline.png")


def _from_zoo(name: str) -> ModelGraph:
    example = zoo.build(name)
    return ef.capture(example.module, example.args, example.kwargs, name=name)


def measure(
    model: str,
    graph: ModelGraph,
    mixes: Sequence[str],
    bandwidths: Sequence[str],
    memories: Sequence[float],
    *,
    requests: int,
) -> list[Row]:
    """Return a row for each mix, memory, bandwidth and strategy."""
    alone = ef.simulate(ef.plan(graph, Cluster.local([1.0], memory="64 GiB"), strategy="single"), requests=1)
    whole = alone.peak_memory_bytes["device0"]
    rows: list[Row] = []
    for mix, share, bandwidth in product(mixes, memories, bandwidths):
        cluster = Cluster.local(MIXES[mix], bandwidth=bandwidth, memory=int(share * whole))
        for strategy in STRATEGIES:
            row = {"model": model, "mix": mix, "memory": share, "bandwidth": bandwidth, "strategy": strategy}
            rows.append({**row, **answered(graph, cluster, strategy, requests)})
    return rows


def answered(graph: ModelGraph, cluster: Cluster, strategy: str, requests: int) -> Row:
    """Plan for throughput, and simulate a saturated stream of requests."""
    figures = ("throughput_per_s", "predicted_per_s", "latency_s", "devices", "bottleneck")
    try:
        plan = ef.plan(graph, cluster, strategy=strategy, objective="throughput")
    except InfeasiblePlanError as error:
        return {**dict.fromkeys(figures), "chosen": "", "problem": str(error)}
    in_flight = IN_FLIGHT * len(cluster.devices)
    report = ef.simulate(
        plan, requests=requests, arrivals=ClosedLoop(in_flight), max_in_flight=2 * len(cluster.devices)
    )
    busy = report.resource_busy_share
    return {
        "throughput_per_s": round(report.throughput_per_s, 6),
        "predicted_per_s": round(1 / plan.predicted_period_s, 6),
        "latency_s": round(report.latency_s, 6),
        "devices": len(plan.devices),
        "bottleneck": max(sorted(busy), key=lambda name: busy[name]),
        "chosen": plan.chosen,
        "problem": "",
    }


def draw(rows: list[Row], path: Path) -> None:
    """Plot throughput over bandwidth: one row of panels per model and mix, one column per memory."""
    lines = list(dict.fromkeys((row["model"], row["mix"]) for row in rows))
    memories = distinct(rows, "memory")
    colour = colours(STRATEGIES)
    made = figure(3.6 * len(memories) + 0.4, 2.4 * len(lines) + 0.6)
    panels = made.subplots(len(lines), len(memories), squeeze=False, sharex=True, sharey="row")
    ticks = {bandwidth: index for index, bandwidth in enumerate(distinct(rows, "bandwidth"))}
    for (line, (model, mix)), (column, share) in product(enumerate(lines), enumerate(memories)):
        ax = panels[line][column]
        for strategy in STRATEGIES:
            mine = where(rows, model=model, mix=mix, memory=share, strategy=strategy)
            some = [row for row in mine if row["throughput_per_s"] is not None]
            style = "--" if strategy == "auto" else "-"
            xs = [ticks[row["bandwidth"]] for row in some]
            ys = [row["throughput_per_s"] for row in some]
            ax.plot(xs, ys, style, marker="o", markersize=3, color=colour[strategy], label=strategy)
        ax.set_xticks(list(ticks.values()), list(ticks))
        ax.set_ylim(bottom=0)
        finish(ax, f"{model}:\n{mix}, each with {share:g} of its memory", "", "")
    made.supxlabel("bandwidth", fontsize=9)
    made.supylabel("requests per second", fontsize=9)
    handles, labels = panels[0][0].get_legend_handles_labels()
    made.legend(handles, labels, loc="outside upper center", ncols=len(STRATEGIES), frameon=False, fontsize=8)
    made.savefig(path)


if __name__ == "__main__":
    main()
