"""Send requests one after the other for some time, and report each second how they were answered."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

from edgeflow.balancer import Decision
from edgeflow.graph.compare import leaves


class Streamed(NamedTuple):
    """Totals of a stream.

    Attributes:
        failed: Requests without an answer.
        changed: Answers that differ from the first one by more than the tolerance.
    """

    answered: int
    failed: int
    changed: int


class Failure(NamedTuple):
    """A request that raised."""

    elapsed_s: float
    error: Exception


class Second(NamedTuple):
    """The answers since the previous report.

    Attributes:
        elapsed_s: Since the start of the stream.
        latencies_s: Of each answer, in order.
        devices: Names of the devices in the running plan.
    """

    elapsed_s: float
    latencies_s: tuple[float, ...]
    devices: tuple[str, ...]


#: Reported while a stream runs; a `Decision` is a switch of plans.
Event = Failure | Second | Decision


def stream(
    session: Any,
    request: Callable[[], Any],
    *,
    seconds: float,
    on_event: Callable[[Event], None],
    tolerance: float = 1e-4,
    clock: Callable[[], float] = time.monotonic,
) -> Streamed:
    """Repeat one request, and compare every answer with the first one.

    Args:
        session: Read for the running plan and the balancer's decisions.
        request: Sends the request and returns its answer.
        seconds: No request is sent later than this after the start.
        on_event: Told of each failed request, each second and each switch of plans.
        tolerance: Largest difference between answers, relative to the largest value.
    """
    start_s = clock()
    first: list[Any] = []
    latencies: list[float] = []
    answered = failed = changed = num_told = 0
    next_s = start_s + 1.0
    while (now_s := clock()) < start_s + seconds:
        try:
            outputs = list(leaves(request()))
        except Exception as error:  # count it, and go on
            failed += 1
            on_event(Failure(now_s - start_s, error))
        else:
            answered += 1
            latencies.append(clock() - now_s)
            first = first or outputs
            changed += any(_differ(a, b, tolerance) for a, b in zip(first, outputs, strict=True))
        if clock() >= next_s:
            next_s += 1.0
            on_event(Second(clock() - start_s, tuple(latencies), _devices(session.plan)))
            latencies.clear()
        switches = [item for item in session.decisions if item.verdict == "switch"]
        for decision in switches[num_told:]:
            on_event(decision)
        num_told = len(switches)
    return Streamed(answered, failed, changed)


def _differ(a: Any, b: Any, tolerance: float) -> bool:
    return bool(abs(a - b).max(initial=0.0) > tolerance * max(abs(a).max(initial=0.0), 1e-12))


def _devices(plan: Any) -> tuple[str, ...]:
    return tuple(plan.cluster.devices[rank].name for rank in plan.devices)
