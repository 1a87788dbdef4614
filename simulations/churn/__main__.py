"""Latencies while devices slow down, are lost and join; see README.md.

python -m simulations.churn [--output FOLDER] [--small]
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from statistics import fmean

import edgeflow as ef
from edgeflow.cluster import Cluster
from edgeflow.simulator import (
    MeasuredSpeeds,
    Poisson,
    Reaction,
    Scenario,
    SimulationReport,
    Thresholds,
    load_scenario,
    simulate,
)
from edgeflow.simulator.sweep_plot import figure
from edgeflow.testing import zoo
from simulations.command import Row, parser, write

HERE = Path(__file__).parent
MODEL = "tiny-resnet"
SPEEDS = (0.04, 0.04, 0.02, 0.02)
RATE_PER_S = 6.0
DURATION_S = 240.0
REACTION = Reaction(detection_s=1.0, switch_s=0.5, interval_s=1.0)
THRESHOLDS = Thresholds(gain=0.1, cool_down_s=5.0, forget_s=30.0)


def main() -> None:
    command = parser(__doc__, HERE)
    command.add_argument("--seed", type=int, default=0)
    options = command.parse_args()
    scenario = load_scenario(HERE / "scenario.yaml")
    reports = run(scenario, seed=options.seed, strategy="single" if options.small else "auto")
    write(options.output / "results.csv", table(reports))
    draw(options.output / "churn.png", scenario, reports)


def run(scenario: Scenario, *, seed: int, strategy: str) -> Mapping[str, SimulationReport]:
    """Return the reports without and with the policy."""
    example = zoo.build(MODEL)
    graph = ef.capture(example.module, example.args, name=MODEL)
    cluster = Cluster.local(SPEEDS, bandwidth="1 Gbit/s", latency="0.2 ms")
    plan = ef.plan(graph, scenario.initial(cluster), strategy=strategy)
    reports = {}
    for name, watcher in (("losses only", None), ("policy", MeasuredSpeeds(THRESHOLDS))):
        reports[name] = simulate(
            plan,
            int(RATE_PER_S * DURATION_S),
            arrivals=Poisson(RATE_PER_S, seed),
            scenario=scenario,
            cluster=cluster,
            balancer=watcher,
            replan=watcher.replan if watcher else None,
            reaction=REACTION,
        )
    return reports


def table(reports: Mapping[str, SimulationReport]) -> list[Row]:
    """Return a row for the whole run, and one per change of plans."""
    rows: list[Row] = []
    for name, report in reports.items():
        rows.append(
            {
                "who": name,
                "time_s": "",
                "reason": "all",
                "chosen": "",
                "requests": len(report.records),
                "mean_s": report.latency_s,
                "p95_s": report.p95_latency_s,
                "replayed": report.num_replayed,
                "lost": report.num_lost,
            }
        )
        rows += [
            {"who": name, "time_s": switch.time_s, "reason": switch.reason, "chosen": switch.chosen}
            for switch in report.switches
        ]
    return rows


def draw(path: Path, scenario: Scenario, reports: Mapping[str, SimulationReport]) -> None:
    """Plot the mean latency of requests by arrival, in bins of two seconds, with the scenario's changes."""
    made = figure(10, 2.5 * len(reports))
    for ax, (name, report) in zip(
        made.subplots(len(reports), 1, sharex=True, sharey=True, squeeze=False)[:, 0],
        reports.items(),
        strict=True,
    ):
        bins: dict[int, list[float]] = {}
        for record in report.records:
            bins.setdefault(int(record.arrival_s // 2), []).append(record.latency_s)
        ax.plot(
            [2 * key + 1 for key in bins], [fmean(values) * 1e3 for values in bins.values()], linewidth=1.2
        )
        ax.set_yscale("log")
        for index, change in enumerate(scenario.in_order):
            text = f" {change.kind} {change.device}"
            text += f" to {change.factor:g}" if change.kind == "slow" else ""
            height = 0.97 - 0.09 * (index % 4)
            ax.axvline(change.time_s, color="#c53a32", linewidth=0.8)
            ax.text(change.time_s, height, text, transform=ax.get_xaxis_transform(), fontsize=6.5, va="top")
        for switch in report.switches:
            ax.axvline(switch.time_s, color="#519e3e", linewidth=0.8, linestyle=":")
        ax.set_title(
            f"{name}: mean {report.latency_s * 1e3:.0f} ms, 95 % {report.p95_latency_s * 1e3:.0f} ms, "
            f"{report.num_replayed} replayed, {report.num_lost} lost",
            loc="left",
            fontsize=9,
        )
        ax.grid(color="#e6e8eb", linewidth=0.7)
    made.supxlabel("s; red: what happens, green: another plan takes over", fontsize=9)
    made.supylabel("ms", fontsize=9)
    made.savefig(path)


if __name__ == "__main__":
    main()
