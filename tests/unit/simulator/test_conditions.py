"""Speeds and paths under a scenario."""

from __future__ import annotations

import pytest

from edgeflow.cluster.cluster import Cluster
from edgeflow.simulator.conditions import Conditions
from edgeflow.simulator.profile import TraceEndedError
from edgeflow.simulator.scenario import Change, Scenario, Trace

CLUSTER = Cluster.local([1.0, 1.0], bandwidth="8 Mbit/s", latency="0 s")  # 1 MB per second


def test_a_slow_change_holds_until_the_next_one() -> None:
    changes = tuple(
        Change(time_s=time_s, kind="slow", device="device1", factor=factor)
        for time_s, factor in ((2.0, 0.5), (4.0, 1.0))
    )
    speed = Conditions(Scenario(changes=changes), CLUSTER).speed(1)

    assert speed is not None
    assert [speed.factor(time_s) for time_s in (0.0, 1.9, 2.0, 3.9, 4.0, 1e9)] == [1, 1, 0.5, 0.5, 1, 1]
    # One second of work before the change, then half of the speed for the rest.
    assert speed.finish(1.0, 1.5) == pytest.approx(3.0)


def test_a_device_without_changes_has_no_profile_and_the_client_has_the_sources() -> None:
    change = Change(time_s=1.0, kind="slow", device="device0", factor=0.5)
    conditions = Conditions(Scenario(changes=(change,)), CLUSTER)

    assert conditions.speed(1) is None
    assert conditions.speed(-1) is conditions.speed(0) is not None


def test_a_network_trace_slows_the_hops_of_its_links() -> None:
    trace = Trace(of="network", times_s=(0.0, 1.0), values=(1e6, 0.5e6), duration_s=100.0)
    path = Conditions(Scenario(traces=(trace,)), CLUSTER).path(0, 1)

    first = path.hops[0]
    assert first.occupied_s(500_000, 0.0) == pytest.approx(0.5)
    assert first.occupied_s(500_000, 2.0) == pytest.approx(1.0)
    # Half before the rate halves, half after it.
    assert first.occupied_s(1_000_000, 0.5) == pytest.approx(1.5)


def test_a_trace_that_ends_too_early_is_an_error() -> None:
    trace = Trace(of="network", times_s=(0.0,), values=(1e6,), duration_s=3.0)
    conditions = Conditions(Scenario(traces=(trace,)), CLUSTER)

    conditions.check_end(3.0, "")
    with pytest.raises(TraceEndedError, match=r"network ended at 3 s.*2 of 5"):
        conditions.check_end(3.1, "2 of 5")
