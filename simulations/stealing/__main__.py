"""Tiles assigned beforehand, or claimed at run time, when a device is slower than planned? See README.md.

python -m simulations.stealing [--output FOLDER] [--small]
"""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Final

from edgeflow.cluster import Cluster
from edgeflow.cost import CostModel
from edgeflow.plan import Decision, Plan, Weighed, verify_plan
from edgeflow.planner.strategies.deepthings import tiled
from edgeflow.planner.task import Task
from edgeflow.simulator import Change, Every, Scenario, simulate
from edgeflow.simulator.sweep_plot import colours, figure
from simulations.command import Row, distinct, finish, parser, where, write
from simulations.deepthings.fusion import LAYERS, graph, length

#: 3.5 GFLOP/s, as four cores of a Raspberry Pi 3 are taken to be; the paper measures these.
SPEED: Final = 0.0875
GRID: Final = (5, 5)
DEVICES = (2, 4, 6)
BANDWIDTHS = ("1 Mbit/s", "10 Mbit/s", "100 Mbit/s", "1 Gbit/s")
#: Factors by which the last device is slower than planned.
SLOWNESS = (1.0, 1.5, 2.0, 3.0, 5.0, 10.0)
#: Way -> whether borders are reused, whether tiles are claimed, whether the plan knows of the slow device.
WAYS: Final = {
    "dealt out": (False, False, False),
    "dealt out, borders reused": (True, False, False),
    "dealt out, slowness known": (False, False, True),
    "claimed": (False, True, False),
}


def main() -> None:
    options = parser(__doc__, Path(__file__).parent).parse_args()
    if options.small:
        rows = measure(DEVICES[:1], BANDWIDTHS[2:3], SLOWNESS[::4], grid=(2, 2), layers=4)
    else:
        rows = measure(DEVICES, BANDWIDTHS, SLOWNESS, grid=GRID, layers=LAYERS)
    write(options.output / "results.csv", rows)
    draw(rows, options.output / "stealing.png")


def measure(
    devices: tuple[int, ...],
    bandwidths: tuple[str, ...],
    slowness: tuple[float, ...],
    *,
    grid: tuple[int, int],
    layers: int,
) -> list[Row]:
    """Return a row for each number of devices, bandwidth, slowness and way: one request, simulated."""
    rows: list[Row] = []
    for count, bandwidth in product(devices, bandwidths):
        cluster = _cluster([SPEED] * count, bandwidth)
        last = cluster.devices[-1].name
        for way, (reuse, claims, is_known) in WAYS.items():
            unaware = _plan(cluster, grid, layers, reuse=reuse, claims=claims)
            for times in slowness:
                plan = unaware
                if is_known:
                    aware = _cluster([SPEED] * (count - 1) + [SPEED / times], bandwidth)
                    plan = _plan(aware, grid, layers, reuse=reuse, claims=claims)
                slow = Change(time_s=0.0, kind="slow", device=last, factor=1 / times)
                report = simulate(
                    plan, 1, arrivals=Every(1.0), cluster=cluster, scenario=Scenario(changes=(slow,))
                )
                rows.append(
                    {
                        "devices": count,
                        "bandwidth": bandwidth,
                        "times_slower": times,
                        "way": way,
                        "latency_s": round(report.latency_s, 6),
                        "transferred_bytes": report.transferred_bytes,
                        "busy_share_of_slow_device": round(report.busy_share.get(last, 0.0), 4),
                    }
                )
    return rows


def _cluster(speeds: list[float], bandwidth: str) -> Cluster:
    return Cluster.local(speeds, bandwidth=bandwidth, latency="0.5 ms")


def _plan(cluster: Cluster, grid: tuple[int, int], layers: int, *, reuse: bool, claims: bool) -> Plan:
    """Return a plan with the first layers of YOLOv2 in tiles; the rest of the graph runs on the gateway."""
    task = Task(graph=graph(), cluster=cluster, cost=CostModel(cluster=cluster))
    stages = tiled(task, length(layers), grid, reuse=reuse, claims=claims)
    plan = Plan(Decision(graph=graph(), cluster=cluster, stages=stages), Weighed(strategy="deepthings"))
    verify_plan(plan)
    return plan


def draw(rows: list[Row], path: Path) -> None:
    """Latency over how slow the last device is: a row of panels a number of devices, a column a bandwidth."""
    counts, bandwidths = distinct(rows, "devices"), distinct(rows, "bandwidth")
    colour = colours(list(WAYS))
    made = figure(2.9 * len(bandwidths) + 0.4, 2.4 * len(counts) + 0.6)
    panels = made.subplots(len(counts), len(bandwidths), squeeze=False, sharex=True)
    for (line, count), (column, bandwidth) in product(enumerate(counts), enumerate(bandwidths)):
        ax = panels[line][column]
        for way in WAYS:
            mine = where(rows, devices=count, bandwidth=bandwidth, way=way)
            xs, ys = ([row[key] for row in mine] for key in ("times_slower", "latency_s"))
            ax.plot(xs, ys, marker="o", markersize=3, color=colour[way], label=way)
        ax.set_ylim(bottom=0)
        finish(ax, f"{count} devices, {bandwidth}", "", "")
    made.supxlabel("times that the last device is slower than planned", fontsize=9)
    made.supylabel("seconds", fontsize=9)
    handles, labels = panels[0][0].get_legend_handles_labels()
    made.legend(handles, labels, loc="outside upper center", ncols=len(WAYS), frameon=False, fontsize=8)
    made.savefig(path)


if __name__ == "__main__":
    main()
