"""Print the events of a stream of requests, one per line."""

from __future__ import annotations

import statistics

from edgeflow.demo.stream import Event, Failure, Second
from edgeflow.units import format_seconds


def line(event: Event) -> str:
    """Return an event as one line."""
    match event:
        case Failure(elapsed_s, error):
            return f"{elapsed_s:5.0f} s  failed: {error}"
        case Second(elapsed_s, latencies_s, names):
            devices = ", ".join(names)
            if not latencies_s:
                return f"{elapsed_s:5.0f} s  no answer yet  on {devices}"
            middle, most = format_seconds(statistics.median(latencies_s)), format_seconds(max(latencies_s))
            counted = f"{len(latencies_s):4d} answers, median {middle:>8}, longest {most:>8}"
            return f"{elapsed_s:5.0f} s  {counted}  on {devices}"
        case decision:
            return f"         {decision.explain()}"
