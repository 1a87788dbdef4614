"""Which rows there are, on which cores, and what is compared with what."""

from __future__ import annotations

import msgspec
import pytest

from edgeflow.bench.machine import place
from edgeflow.bench.measure import Rounds, measure_rounds
from edgeflow.bench.results import RowResult, Seconds, with_ratios
from edgeflow.bench.rows import BASELINES, Row, choose, rows_for
from edgeflow.errors import ConfigError


def test_the_baselines_are_measured_whatever_is_asked_for() -> None:
    chosen = choose(rows_for("megatron"), ["1:0.5"])
    assert [row.name for row in chosen] == [*BASELINES, "1:0.5"]


def test_an_unknown_row_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"no row 'nothing'; known: torch, .*ray"):
        choose(rows_for("megatron"), ["nothing"])


def test_names_of_rows_are_different() -> None:
    names = [row.name for row in rows_for("coedge")]
    assert len(names) == len(set(names))


def test_slow_devices_share_a_core_and_full_ones_do_not() -> None:
    assert place((1.0, 0.5, 0.25), (4, 7)) == (4, 7, 7)
    with pytest.raises(ConfigError, match="more than the 2 cores"):
        place((1.0, 1.0, 1.0), (4, 7))


def test_ratios_are_to_the_faster_baseline() -> None:
    def row(name: str, latency_s: float, period_s: float) -> RowResult:
        return RowResult(
            row=Row(name=name, kind="torch"), latency=Seconds.of([latency_s]), period=Seconds.of([period_s])
        )

    rows = [row("torch", 4.0, 2.0), row("onnxruntime", 3.0, 3.0), row("equal-2", 2.0, 1.0)]
    filled = with_ratios([*rows, RowResult(row=Row(name="ray", kind="ray"), skipped="no")], BASELINES)
    assert [item.speedup for item in filled] == [0.75, 1.0, 1.5, None]
    assert [item.stream_speedup for item in filled] == [1.0, 2 / 3, 2.0, None]


def test_a_saved_timing_keeps_its_names() -> None:
    seconds, saved = Seconds.of([1.0, 4.0, 2.0]), {"median_s": 2.0, "min_s": 1.0, "max_s": 4.0, "runs": 3}
    assert msgspec.to_builtins(seconds) == saved
    assert msgspec.convert(saved, Seconds) == seconds


class _Child:
    """Says when it was asked, and fails at a call if told so."""

    def __init__(self, name: str, log: list[str], fails_at: int = -1) -> None:
        self._name, self._log, self._left = name, log, fails_at

    def latency_s(self) -> float:
        if self._left == 0:
            raise ConfigError("gone")
        self._left -= 1
        self._log.append(self._name)
        return float(len(self._log))

    def stream_s(self) -> float:
        return 1.0


def test_rows_take_turns_and_the_first_round_does_not_count() -> None:
    log: list[str] = []
    found = measure_rounds({"a": _Child("a", log), "b": _Child("b", log)}, runs=2, say=lambda text: None)
    assert log == ["a", "b"] * 3
    assert found["a"] == Rounds((3.0, 5.0), (1.0, 1.0))


def test_a_row_that_fails_does_not_stop_the_others() -> None:
    log: list[str] = []
    children = {"a": _Child("a", log, fails_at=1), "b": _Child("b", log)}
    found = measure_rounds(children, runs=2, say=lambda text: None)
    assert found["a"] == Rounds(failure="gone")
    assert len(found["b"].latencies) == 2


def test_rounds_of_one_row_beside_two_groups_count_together() -> None:
    before, after = Rounds((1.0,), (2.0,)), Rounds((3.0,), (4.0,), "gone")
    assert before.and_then(after) == Rounds((1.0, 3.0), (2.0, 4.0), "gone")
