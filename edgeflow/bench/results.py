"""What a benchmark says: timings with their range, ratios, errors; and why a row is missing."""

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
        compute_s: In kernels, the waiting of an emulated slower device included.
        pack_s: Copying received parts together, and summing them.
        send_s: Cutting out, framing, and handing to the system.
        wait_s: Waiting for a frame while another rank was still computing.
        wire_s: Waiting for a frame while none was: on its way, or in somebody's queue.
        python_s: The rest: between instructions, and before the first and after the last.
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
        skipped: Why there are no numbers; empty where there are.
        error: Largest difference from torch on one device, relative to the output's largest value.
        latency: Of one request, nothing else under way.
        period: Of one of a stream: its duration over the number of requests.
        speedup, stream_speedup: Over the faster of torch and onnxruntime on one core.
        predicted_latency_s, predicted_period_s: By the plan, with calibrated costs.
        plan: The way that was chosen, in words.
        times: Where one request spent its time; empty unless asked for.
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
        loopback: The loopback interface as a link, as it was measured and plans were made for.
        contention: How many times as long devices take while all of them compute; plans know of it.
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
    """Fill in how much faster each row is than the fastest of the baselines."""
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
