"""Traces: the Chrome format that viewers expect, sums that do not count twice, a picture that is drawn."""

from __future__ import annotations

import builtins
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeflow.errors import ConfigError
from edgeflow.telemetry import (
    Kind,
    Panel,
    TraceEvent,
    chrome_trace,
    only_request,
    plot_panels,
    plot_timeline,
    summarise,
    write_chrome_trace,
)
from edgeflow.telemetry.summary import covered
from edgeflow.telemetry.timeline import Bar, merged


def event(
    rank: int, start_s: float, stop_s: float, kind: Kind = "compute", stage: str = "s0", request: int = 0
) -> TraceEvent:
    return TraceEvent(
        rank=rank,
        lane="cpu" if kind == "compute" else "network",
        name=f"{kind} of {stage}",
        kind=kind,
        stage=stage,
        start_s=start_s,
        stop_s=stop_s,
        request=request,
    )


TRACE = (
    event(-1, 0.0, 0.001, "send"),
    event(0, 0.001, 0.004),
    event(0, 0.004, 0.005, "send"),
    event(1, 0.005, 0.009, stage="s1"),
    event(-1, 0.001, 0.010, "receive"),
)


def slices(trace: dict[str, Any]) -> list[dict[str, Any]]:
    return [item for item in trace["traceEvents"] if item["ph"] == "X"]


def test_chrome_trace_has_a_named_process_a_device_and_a_named_thread_a_lane() -> None:
    items = chrome_trace(TRACE, ["nuc", "pi4"])["traceEvents"]
    processes = {item["pid"]: item["args"]["name"] for item in items if item["name"] == "process_name"}
    threads = {
        (item["pid"], item["tid"]): item["args"]["name"] for item in items if item["name"] == "thread_name"
    }

    assert list(processes.values()) == ["client", "nuc", "pi4"]
    assert all(pid > 0 for pid in processes)
    assert {(item["pid"], item["tid"]) for item in items if item["ph"] == "X"} == set(threads)
    assert set(threads.values()) == {"cpu", "network"}


def test_chrome_trace_is_in_microseconds_and_in_order() -> None:
    found = slices(chrome_trace(TRACE))

    assert [item["ts"] for item in found] == sorted(item["ts"] for item in found)
    assert found[-1]["dur"] == pytest.approx(4000)
    assert found[-1]["args"] == {"stage": "s1", "request": 0}


def test_a_written_trace_is_json_that_names_unknown_ranks(tmp_path: Path) -> None:
    write_chrome_trace(tmp_path / "trace.json", TRACE, {0: "nuc"})
    items = json.loads((tmp_path / "trace.json").read_text(encoding="utf-8"))["traceEvents"]

    names = [item["args"]["name"] for item in items if item["name"] == "process_name"]
    assert names == ["client", "nuc", "rank 1"]


def test_the_same_events_in_another_order_make_the_same_trace() -> None:
    assert chrome_trace(TRACE) == chrome_trace(reversed(TRACE))


def test_summary_counts_computing_and_waiting() -> None:
    summary = summarise(TRACE)

    assert summary[0].makespan_s == pytest.approx(0.010)
    assert summary[0].compute_s == pytest.approx(0.003)
    assert summary[0].busy_share == pytest.approx(0.3)
    assert summary[0].waiting_share == pytest.approx(0.7)
    assert summary[0].transfer_s == pytest.approx(0.001)


def test_summary_counts_overlapping_work_once() -> None:
    assert summarise([event(0, 0, 2), event(0, 1, 3)])[0].compute_s == pytest.approx(3)


def test_summary_of_nothing() -> None:
    assert summarise([]) == {}
    assert summarise([event(0, 1, 1)])[0].busy_share == 0


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100)).map(lambda pair: (min(pair), max(pair)))))
def test_covered_is_between_the_longest_and_the_sum(spans: list[tuple[float, float]]) -> None:
    longest = max((stop - start for start, stop in spans), default=0)

    assert longest - 1e-9 <= covered(spans) <= sum(stop - start for start, stop in spans) + 1e-9


def test_one_request_is_cut_out_and_starts_at_zero() -> None:
    chosen = only_request([event(0, 5, 6, request=1), event(1, 7, 9, request=1), event(0, 1, 2)], 1)

    assert [(e.rank, e.start_s, e.stop_s) for e in chosen] == [(0, 0, 1), (1, 2, 4)]


def test_bars_join_what_follows_in_one_stage_only() -> None:
    found = merged(
        [event(0, 0, 1), event(0, 1.01, 2), event(0, 2, 3, stage="s1"), event(0, 5, 6, stage="s1")], gap_s=0.1
    )

    assert found == (Bar(0, 2, "s0"), Bar(2, 3, "s1"), Bar(5, 6, "s1"))


def test_bars_do_not_join_two_requests() -> None:
    assert len(merged([event(0, 0, 1, request=0), event(0, 1, 2, request=1)], gap_s=1)) == 2


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_a_picture_is_drawn(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"timeline.{ending}"
    plot_timeline(path, TRACE, ["nuc", "pi4"], "a model", stage_kinds={"s0": "rows", "s1": "something else"})

    head = path.read_bytes()[:200]
    assert head.startswith(b"\x89PNG") if ending == "png" else b"<svg" in head or b"<?xml" in head


def test_a_picture_names_devices_stages_and_panels(tmp_path: Path) -> None:
    panels = [Panel("predicted", TRACE), Panel("measured", TRACE)]
    plot_panels(tmp_path / "t.svg", panels, ["nuc", "pi4"], "a model", stage_kinds={"s0": "rows"})

    text = (tmp_path / "t.svg").read_text(encoding="utf-8")
    for word in ("nuc", "pi4", "client", "predicted", "measured", "a model", "rows or tokens", "time (ms)"):
        assert f"<!-- {word} -->" in text


def test_a_picture_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at least one event"):
        plot_timeline(tmp_path / "t.png", [])


def test_without_matplotlib_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r"edgeflow-inference\[demo\]"):
        plot_timeline(tmp_path / "t.png", TRACE)
