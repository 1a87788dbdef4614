"""``edgeflow top``: show the state of a session, live."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from edgeflow.telemetry.status import Status, read_status
from edgeflow.units import format_seconds

#: Heights of a bar, as shares of the highest latency.
_BARS = "▁▂▃▄▅▆▇█"
_COLUMNS = 60


def top(
    status: Annotated[
        Path, typer.Argument(metavar="FILE", help="The session's status file: `deploy(status_file=...)`.")
    ],
    interval: Annotated[float, typer.Option(min=0.1, help="Seconds between two readings.")] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Print the current state and exit.")] = False,
) -> None:
    """Show a session's devices, speeds, epochs, latencies and the balancer's recent decisions."""
    if once:
        Console(width=120).print(render(read_status(status)))
        return
    with Live(render(read_status(status)), screen=True, auto_refresh=False) as live:
        while True:
            time.sleep(interval)
            live.update(render(read_status(status)), refresh=True)


def render(status: Status) -> RenderableType:
    """Return a status as text and tables."""
    return Group(_summary(status), _latencies(status), _devices(status), _epochs(status), _decisions(status))


def _summary(status: Status) -> Text:
    return Text(
        f"up {status.time_s:.0f} s   {status.strategy} for {status.objective}, predicted "
        f"{format_seconds(status.predicted_s)}   answered {status.num_answered}   replayed "
        f"{status.num_replayed}   in flight {status.num_under_way}   waiting {status.num_waiting}"
    )


def _latencies(status: Status) -> Text:
    recent = status.latencies_s[-_COLUMNS:]
    if not recent:
        return Text("latency: no request yet")
    highest = max(recent)
    bars = "".join(_BARS[min(len(_BARS) - 1, int(value / highest * len(_BARS)))] for value in recent)
    return Text(
        f"latency {bars}  median {format_seconds(statistics.median(recent))}, "
        f"last {format_seconds(recent[-1])}, longest {format_seconds(highest)}"
    )


def _devices(status: Status) -> Table:
    table = Table("device", "worker", "state", "slowness", "measured by", "load", "active")
    for device in status.devices:
        state = "lost" if not device.is_up else "in use" if device.is_used else "idle"
        table.add_row(
            device.name,
            device.address,
            Text(state, style={"lost": "red", "in use": "green"}.get(state, "")),
            f"{device.ratio:.2f}x",
            device.source,
            f"{device.load:.0%}",
            str(device.num_active_requests),
        )
    return table


def _epochs(status: Status) -> Table:
    table = Table("epoch", "state", "devices", "in flight")
    for epoch in status.epochs:
        table.add_row(str(epoch.number), epoch.state, ", ".join(epoch.devices), str(epoch.under_way))
    return table


def _decisions(status: Status) -> Text:
    lines = [f"{time_s:8.1f} s  {text}" for time_s, text in reversed(status.decisions)]
    return Text("\n".join(lines) or "no decision yet")
