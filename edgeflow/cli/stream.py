"""Requests one after the other for some time, a line a second: what a session's users see meanwhile."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from edgeflow.cli.screen import say
from edgeflow.graph.compare import leaves
from edgeflow.units import format_seconds


class Streamed(NamedTuple):
    """What became of a stream.

    Attributes:
        failed: Requests without an answer.
        changed: Answers further from the first one than the tolerance.
    """

    answered: int
    failed: int
    changed: int


def stream(session: Any, request: Callable[[], Any], *, seconds: float, tolerance: float = 1e-4) -> Streamed:
    """Answer one request after the other, and say each second how long they took, and who answers.

    Every request is the same one, so every answer has to be the first one again, whoever gave it.
    """
    start_s = time.monotonic()
    first: list[Any] = []
    latencies: list[float] = []
    answered = failed = changed = told = 0
    next_s = start_s + 1.0
    while (now_s := time.monotonic()) < start_s + seconds:
        try:
            outputs = list(leaves(request()))
        except Exception as error:  # a stream goes on, and counts
            failed += 1
            say(f"{now_s - start_s:5.0f} s  failed: {error}")
        else:
            answered += 1
            latencies.append(time.monotonic() - now_s)
            first = first or outputs
            changed += any(_differ(a, b, tolerance) for a, b in zip(first, outputs, strict=True))
        if time.monotonic() >= next_s:
            next_s += 1.0
            say(_line(session, time.monotonic() - start_s, latencies))
            latencies.clear()
        switches = [item for item in session.decisions if item.verdict == "switch"]
        for decision in switches[told:]:
            say(f"         {decision.explain()}")
        told = len(switches)
    return Streamed(answered, failed, changed)


def _differ(a: Any, b: Any, tolerance: float) -> bool:
    return bool(abs(a - b).max(initial=0.0) > tolerance * max(abs(a).max(initial=0.0), 1e-12))


def _line(session: Any, elapsed_s: float, latencies: list[float]) -> str:
    plan = session.plan
    devices = ", ".join(plan.cluster.devices[rank].name for rank in plan.devices)
    if not latencies:
        return f"{elapsed_s:5.0f} s  no answer yet  on {devices}"
    middle, most = format_seconds(statistics.median(latencies)), format_seconds(max(latencies))
    counted = f"{len(latencies):4d} answers, median {middle:>8}, longest {most:>8}"
    return f"{elapsed_s:5.0f} s  {counted}  on {devices}"
