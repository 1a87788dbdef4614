"""Results of a benchmark: timings with their range, ratios, errors, and reasons for missing rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from edgeflow.bench.machine import Environment
from edgeflow.bench.rows import Row
from edgeflow.cluster.network import Link
from edgeflow.telemetry.timing import Timing


class Seconds(Timing, frozen=True, kw_only=True):
    """A timing of one request, or of one of a stream; saved results say ``runs`` for their number."""

    num_requests: int = msgspec.field(name="runs")


class RankTime(msgspec.Struct, frozen=True, kw_only=True):
    """Where the time of one request went on one rank; the parts add up to the request.

    Attributes:
        compute_s: In kernels, including the pauses of an emulated slower device.
        pack_s: Copying and summing received parts.
        send_s: Slicing, framing, and passing frames to the system.
        wait_s: Waiting for a frame while another rank computed.
        wire_s: Waiting for a frame while no other rank computed: it was in transit or in a queue.
        python_s: The rest: between instructions, before the first and after the last.
    """

    rank: int
    compute_s: float
    pack_s: float
    send_s: float
    wait_s: float
    wire_s: float
    python_s: float


class RowResult(msgspec.Struct, frozen=True, kw_only=True):
    """One row of one model.

    Attributes:
        skipped: Why there are no numbers; empty if there are.
        error: Largest difference from torch on one device, relative to the output's largest value.
        latency: Of one request with no other in flight.
        period: Duration of a stream / its number of requests.
        speedup, stream_speedup: Over the faster of torch and onnxruntime on one core.
        predicted_latency_s, predicted_period_s: By the plan, with calibrated costs.
        plan: Description of the chosen plan.
        times: Breakdown of the time of one request; empty unless requested.
    """

    row: Row
    skipped: str = ""
    error: float | None = None
    latency: Seconds | None = None
    period: Seconds | None = None
    speedup: float | None = None
    stream_speedup: float | None = None
    predicted_latency_s: float | None = None
    predicted_period_s: float | None = None
    plan: str = ""
    times: tuple[RankTime, ...] = ()


class ModelResult(msgspec.Struct, frozen=True, kw_only=True):
    """All rows of one model.

    Attributes:
        loopback: The loopback interface as a link, as measured and used by plans.
        contention: Kernel time while all devices compute / kernel time alone; plans use it.
    """

    model: str
    rows: tuple[RowResult, ...]
    loopback: Link | None = None
    contention: float = 1.0


class Report(msgspec.Struct, frozen=True, kw_only=True):
    environment: Environment
    settings: Mapping[str, int | str]
    models: tuple[ModelResult, ...]


def with_ratios(rows: Sequence[RowResult], baselines: Sequence[str]) -> tuple[RowResult, ...]:
    """Return the rows with their speed-ups over the fastest baseline."""
    base = [row for row in rows if row.row.name in baselines]
    latency_s = min((row.latency.median_s for row in base if row.latency), default=None)
    period_s = min((row.period.median_s for row in base if row.period), default=None)
    return tuple(
        msgspec.structs.replace(
            row,
            speedup=latency_s / row.latency.median_s if latency_s and row.latency else None,
            stream_speedup=period_s / row.period.median_s if period_s and row.period else None,
        )
        for row in rows
    )
