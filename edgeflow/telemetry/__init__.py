"""Traces of computation and communication, their summaries and timelines; status files and timings."""

from edgeflow.telemetry.summary import RankSummary, summarise
from edgeflow.telemetry.timeline import Panel, plot_panels, plot_timeline
from edgeflow.telemetry.trace import (
    Kind,
    TraceEvent,
    chrome_trace,
    only_request,
    rank_name,
    write_chrome_trace,
)

__all__ = [
    "Kind",
    "Panel",
    "RankSummary",
    "TraceEvent",
    "chrome_trace",
    "only_request",
    "plot_panels",
    "plot_timeline",
    "rank_name",
    "summarise",
    "write_chrome_trace",
]
