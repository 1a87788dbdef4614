"""What each rank spent a request on."""

from __future__ import annotations

import pytest

from edgeflow.bench.where_time_goes import rank_times
from edgeflow.telemetry.trace import Kind, TraceEvent


def _event(rank: int, kind: Kind, start_s: float, stop_s: float) -> TraceEvent:
    return TraceEvent(rank=rank, lane="cpu", name="x", kind=kind, stage="s", start_s=start_s, stop_s=stop_s)


def test_a_receive_is_waiting_while_another_computes_and_wire_afterwards() -> None:
    found = rank_times([_event(0, "compute", 0, 3), _event(0, "send", 3, 4), _event(1, "receive", 1, 6)])
    first, second = found
    assert (first.compute_s, first.send_s, first.python_s) == (3, 1, 2)
    assert (second.wait_s, second.wire_s, second.python_s) == (2, 3, 1)


def test_the_parts_of_every_rank_add_up_to_the_request() -> None:
    events = [
        _event(-1, "send", 0, 1),
        _event(0, "receive", 0, 1.5),
        _event(0, "compute", 2, 5),
        _event(0, "assemble", 4, 6),
        _event(1, "receive", 1, 7),
        _event(1, "compute", 7, 8),
        _event(-1, "receive", 1, 9),
    ]
    for time in rank_times(events):
        parts = (time.compute_s, time.pack_s, time.send_s, time.wait_s, time.wire_s, time.python_s)
        assert sum(parts) == pytest.approx(9)
        assert min(parts) >= 0


def test_no_events_no_times() -> None:
    assert rank_times([]) == ()
