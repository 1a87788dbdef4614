"""What does a deadline cost in energy, and which devices take part? See README.md.

python -m simulations.coedge [--output FOLDER] [--small]
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import torch
from torch import nn

import edgeflow as ef
from edgeflow.cluster import Cluster
from edgeflow.cluster.network import Link
from edgeflow.graph.ir import ModelGraph
from edgeflow.plan import Plan
from edgeflow.simulator.sweep_plot import colours, figure
from edgeflow.testing import models
from simulations.command import Row, distinct, finish, parser, where, write
from simulations.counting import flops_of
from simulations.deepthings.fusion import graph as yolo_layers

HERE = Path(__file__).parent
#: Deadlines, over the least latency of `coedge`.
RELAXED = (0.9, 1.1, 1.25, 1.5, 1.75, 2.0, 2.25, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0)
STRATEGIES = ("coedge", "auto")
#: Rows of the last map of a chain, of which every strip has at least one.
DEEPEST = (2, 4, 8, 16, 32, 64)
_CHANNELS = 256
_X = "deadline_over_least_latency"


def _resnet() -> ModelGraph:
    return ef.capture(models.resnet50(), (torch.zeros(1, 3, 224, 224),))


NETWORKS: Final[Mapping[str, Callable[[], ModelGraph]]] = {
    "YOLOv2, first 16 layers": yolo_layers,
    "ResNet-50": _resnet,
}


def main() -> None:
    options = parser(__doc__, HERE).parse_args()
    cluster = Cluster.load(HERE / "cluster.yaml")
    if options.small:
        graphs = {"chain": chain(8)}
        rows, thresholds = deadlines(graphs, cluster, RELAXED[::4]), threshold(cluster, DEEPEST[:2])
    else:
        graphs = {name: make() for name, make in NETWORKS.items()}
        rows, thresholds = deadlines(graphs, cluster, RELAXED), threshold(cluster, DEEPEST)
    write(options.output / "results.csv", rows)
    write(options.output / "threshold.csv", thresholds)
    draw(rows, thresholds, [device.name for device in cluster.devices], options.output / "coedge.png")


def deadlines(
    graphs: Mapping[str, ModelGraph],
    cluster: Cluster,
    relaxed: Sequence[float],
    strategies: Sequence[str] = STRATEGIES,
) -> list[Row]:
    """Return a row for each network, deadline and strategy."""
    rows: list[Row] = []
    for name, graph in graphs.items():
        least_s = ef.plan(graph, cluster, strategy="coedge").predicted_latency_s
        for times in relaxed:
            deadline_s = times * least_s
            for strategy in strategies:
                plan = ef.plan(graph, cluster, strategy=strategy, objective="energy", deadline_s=deadline_s)
                rows.append(
                    {
                        "network": name,
                        _X: times,
                        "deadline_s": round(deadline_s, 6),
                        "strategy": strategy,
                        "chosen": plan.chosen,
                        "predicted_latency_s": round(plan.predicted_latency_s, 6),
                        "simulated_latency_s": round(ef.simulate(plan, requests=1).latency_s, 6),
                        "is_kept": plan.predicted_latency_s <= deadline_s,
                        "modelled_energy_j": round(plan.predicted_energy_j, 6),
                        **shares(plan),
                    }
                )
    return rows


def threshold(cluster: Cluster, deepest: Sequence[int]) -> list[Row]:
    """Return a row for each height of the last map: least latency, on a network that is no bound."""
    fast = Link(bandwidth_bytes_per_s=1e12, latency_s=0.0)
    devices = tuple(
        msgspec.structs.replace(device, upload_bytes_per_s=None, download_bytes_per_s=None)
        for device in cluster.devices
    )
    cluster = msgspec.structs.replace(cluster, network=fast, devices=devices)
    rows: list[Row] = []
    for height in deepest:
        plan = ef.plan(chain(height), cluster, strategy="coedge")
        row = {"rows_of_last_map": height, "chosen": plan.chosen, "latency_s": plan.predicted_latency_s}
        rows.append({**row, "devices": len(plan.devices), **shares(plan)})
    return rows


def chain(height: int) -> ModelGraph:
    """Return a chain of 3x3 convolutions and three pools whose last map has ``height`` rows."""
    layers: list[nn.Module] = [nn.Conv2d(3, _CHANNELS, 3, padding=1), nn.ReLU()]
    for _ in range(3):
        layers += [nn.Conv2d(_CHANNELS, _CHANNELS, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    layers.append(nn.Conv2d(_CHANNELS, _CHANNELS, 3, padding=1))
    return ef.capture(nn.Sequential(*layers).eval(), (torch.zeros(1, 3, 8 * height, 128),))


def shares(plan: Plan) -> dict[str, float]:
    """Device -> its share of the FLOPs."""
    done = flops_of(plan)
    names = [device.name for device in plan.cluster.devices]
    return {name: round(done[rank] / done.total(), 4) for rank, name in enumerate(names)}


def draw(rows: list[Row], thresholds: list[Row], devices: list[str], path: Path) -> None:
    """Energy over deadlines, and who does how much: a column a network; and who takes part in a chain."""
    networks = distinct(rows, "network")
    colour = colours(devices)
    made = figure(3.8 * (len(networks) + 1), 5.4)
    panels = made.subplots(2, len(networks) + 1, squeeze=False)
    for column, network in enumerate(networks):
        energy, work = panels[:, column]
        for index, strategy in enumerate(STRATEGIES):
            mine = where(rows, network=network, strategy=strategy)
            for is_kept, marker in ((True, "o"), (False, "x")):
                some = where(mine, is_kept=is_kept)
                xs, ys = ([r[key] for r in some] for key in (_X, "modelled_energy_j"))
                energy.plot(xs, ys, marker, markersize=4, color=f"C{index}")
            xs, ys = ([r[key] for r in mine] for key in (_X, "modelled_energy_j"))
            energy.plot(xs, ys, "-" if index == 0 else "--", color=f"C{index}", label=strategy)
        energy.set_ylim(bottom=0)
        energy.legend(frameon=False, fontsize=7)
        finish(energy, f"{network}: energy (x: misses the deadline)", "", "J a request, modelled")
        mine = where(rows, network=network, strategy="coedge")
        _stack(work, [f"{row[_X]:g}" for row in mine], mine, devices, colour)
        finish(work, "coedge: who does how much", "deadline over the least latency", "share of FLOPs")
    count, who = panels[:, -1]
    heights = [str(row["rows_of_last_map"]) for row in thresholds]
    count.plot(heights, [row["devices"] for row in thresholds], marker="o", markersize=4)
    count.set_ylim(0, len(devices) + 0.5)
    finish(count, "a chain, least latency: devices that take part", "", "devices")
    _stack(who, heights, thresholds, devices, colour)
    finish(who, "who does how much", "rows of the last map", "share of FLOPs")
    handles, labels = who.get_legend_handles_labels()
    made.legend(handles, labels, loc="outside lower center", ncols=len(devices), frameon=False, fontsize=8)
    made.savefig(path)


def _stack(ax: Any, ticks: list[str], rows: list[Row], devices: list[str], colour: Mapping[str, str]) -> None:
    below = [0.0] * len(rows)
    for name in devices:
        heights = [row[name] for row in rows]
        ax.bar(ticks, heights, bottom=below, color=colour[name], label=name)
        below = [low + height for low, height in zip(below, heights, strict=True)]


if __name__ == "__main__":
    main()
