"""Speed-ups over the fastest baseline, by hand."""

from __future__ import annotations

from edgeflow.bench.results import RowResult, Seconds, with_ratios
from edgeflow.bench.rows import BASELINES, Row


def row(name: str, latency_s: float | None, period_s: float | None = None) -> RowResult:
    def timing(seconds: float | None) -> Seconds | None:
        return None if seconds is None else Seconds.of([seconds])

    return RowResult(row=Row(name=name, kind="torch"), latency=timing(latency_s), period=timing(period_s))


def test_speedups_are_over_the_faster_baseline_of_each_kind() -> None:
    rows = with_ratios(
        [row("torch", 4.0, 3.0), row("onnxruntime", 2.0, 6.0), row("ours", 1.0, 1.5)], BASELINES
    )

    assert [item.speedup for item in rows] == [0.5, 1.0, 2.0]
    assert [item.stream_speedup for item in rows] == [1.0, 0.5, 2.0]


def test_a_row_or_a_baseline_without_numbers_has_no_speedup() -> None:
    rows = with_ratios([row("torch", 4.0), row("onnxruntime", None), row("ours", None, 1.0)], BASELINES)

    assert [item.speedup for item in rows] == [1.0, None, None]
    assert [item.stream_speedup for item in rows] == [None, None, None]
