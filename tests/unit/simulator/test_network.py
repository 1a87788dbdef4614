"""Transfers that contend, and networks that change: by hand, and against the prediction."""

from __future__ import annotations

from random import Random

import msgspec
import pytest

from edgeflow.cluster.cluster import Cluster
from edgeflow.cluster.network import Hop, Link, Segment, Transit, Turns
from edgeflow.cost import CostModel, predict
from edgeflow.plan import Plan
from edgeflow.simulator import Every, Scenario, Trace, TraceEndedError, simulate
from tests.unit.plan.tiny import convs, cut, plan, stage, whole

_NAMES = ["conv2d", "conv2d_1"]


def test_a_transfer_is_at_all_hops_at_once_and_leaves_the_slowest_last() -> None:
    transit = Transit((Hop("a", 100.0, 1.0), Hop("b", 10.0), Hop("c", 50.0)), 100)
    turns = {name: Turns() for name in "abc"}

    assert transit.move(5.0, turns["a"]) == 6.0  # its first byte, at b
    assert transit.move(6.0, turns["b"]) == 6.0
    assert not transit.has_left
    assert transit.move(6.0, turns["c"]) == 16.0  # its last byte, which b lets go at 16
    assert transit.has_left
    assert [turns[name].busy_s for name in "abc"] == [1.0, 10.0, 2.0]


def test_transfers_take_turns() -> None:
    first, second = (Transit((Hop("a", 100.0),), 100) for _ in range(2))
    turns = Turns()

    assert first.move(5.0, turns) == 6.0
    assert second.move(5.5, turns) == 7.0


def wifi(*, relayed: bool = False, seed: int = 0) -> Cluster:
    """Four devices, three of them on a medium, two behind an uplink."""
    rng = Random(seed)
    made = Cluster.local([1.0, 0.5, 0.5, 0.25], bandwidth="100 Mbit/s", latency=rng.choice([0.0, 1e-3]))
    segments = (
        Segment(
            name="wifi",
            kind="medium",
            members=("device0", "device1", "device2"),
            bandwidth_bytes_per_s=rng.choice([1e5, 3e6]),
            latency_s=rng.choice([0.0, 2e-3]),
            is_relayed=relayed,
        ),
        Segment(
            name="rack",
            kind="uplink",
            members=("device2", "device3"),
            bandwidth_bytes_per_s=rng.choice([1e5, 3e7]),
            latency_s=rng.choice([0.0, 1e-3]),
        ),
    )
    return msgspec.structs.replace(made, segments=segments)


def rows(cluster: Cluster) -> Plan:
    graph = convs(3, 3)
    quarters = {rank: (2 * rank, 2 * rank + 2) for rank in range(4)}
    return plan(
        graph, *(stage(name, [name], cut(graph, name, 2, quarters)) for name in _NAMES), cluster=cluster
    )


@pytest.mark.parametrize("relayed", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_one_request_over_media_and_uplinks_takes_exactly_as_long_as_predicted(
    relayed: bool, seed: int
) -> None:
    made = rows(wifi(relayed=relayed, seed=seed))
    predicted = predict(made)

    report = simulate(made, requests=1)

    assert report.latency_s == predicted.latency_s
    assert report.energy_j == predicted.energy_j
    assert report.transferred_bytes == predicted.transferred_bytes
    span = max(event.stop_s for event in predicted.events)
    assert {
        name: share * max(span, report.latency_s) for name, share in report.resource_busy_share.items()
    } == (pytest.approx(dict(predicted.busy_s)))


def remote(cluster: Cluster) -> Plan:
    """Everything on device 1, whose input and answer cross the network."""
    graph = convs(3, 3)
    return plan(graph, stage("all", _NAMES, whole(graph, "conv2d_1", 1)), cluster=cluster)


def shared_medium(bandwidth_bytes_per_s: float = 1280.0) -> Cluster:
    """A frame of 32 floats, an input or an answer, is on the air for 0.1 s; all else takes no time."""
    made = Cluster.local([1.0, 1.0], bandwidth="100 Gbit/s", latency=0)
    devices = tuple(
        msgspec.structs.replace(
            device, overhead_s=0.0, flops_per_second=1e18, memory_bandwidth_bytes_per_s=1e18
        )
        for device in made.devices
    )
    air = Segment(
        name="air",
        kind="medium",
        members=("device0", "device1"),
        bandwidth_bytes_per_s=bandwidth_bytes_per_s,
    )
    return msgspec.structs.replace(made, devices=devices, segments=(air,))


def no_overhead(cluster: Cluster) -> CostModel:
    return CostModel(cluster=cluster, message_overhead_s=0.0)


def test_two_requests_share_the_air() -> None:
    cluster = shared_medium()

    report = simulate(remote(cluster), requests=2, interval_s=0.0, cost=no_overhead(cluster))

    # Inputs until 0.1 and 0.2; the first answer was ready at 0.1 but waits for the second input, until 0.3;
    # the second answer until 0.4.
    assert report.latencies_s == pytest.approx((0.3, 0.4), abs=1e-9)
    assert report.resource_busy_share["medium:air"] == pytest.approx(1.0)


def trace(of: str, *points: tuple[float, float], end_s: float, repeat: bool = False) -> Scenario:
    times, values = zip(*points, strict=True)
    return Scenario(traces=(Trace(of=of, times_s=times, values=values, duration_s=end_s, repeat=repeat),))


def test_a_transfer_under_way_feels_the_bandwidth_change() -> None:
    cluster = shared_medium()
    slower = trace("medium:air", (0.0, 1280.0), (0.05, 128.0), end_s=10.0)

    report = simulate(remote(cluster), requests=1, cost=no_overhead(cluster), scenario=slower)

    # Half of the input until 0.05, the other half takes 0.5; then 1 s for the answer.
    assert report.latency_s == pytest.approx(1.55, abs=1e-9)


def test_a_constant_trace_is_another_bandwidth() -> None:
    cluster = shared_medium()
    slow = trace("medium:air", (0.0, 640.0), end_s=100.0)

    traced = simulate(remote(cluster), requests=5, arrivals=Every(0.3), scenario=slow)
    static = simulate(remote(shared_medium(640.0)), requests=5, arrivals=Every(0.3))

    assert traced.latencies_s == pytest.approx(static.latencies_s, rel=1e-12)


@pytest.mark.parametrize("of", ["network", "link:device0->device1"])
@pytest.mark.parametrize("has_own_rates", [False, True])
def test_a_constant_trace_of_a_link_is_another_link(of: str, has_own_rates: bool) -> None:
    def cluster(bandwidth: float) -> Cluster:
        made = Cluster.local([1.0, 1.0], bandwidth=1e5 if of.startswith("link") else bandwidth)
        if has_own_rates:
            devices = tuple(
                msgspec.structs.replace(item, upload_bytes_per_s=9e4, download_bytes_per_s=9e4)
                for item in made.devices
            )
            made = msgspec.structs.replace(made, devices=devices)
        if of.startswith("link"):
            link = Link(bandwidth_bytes_per_s=bandwidth, latency_s=1e-3)
            made = msgspec.structs.replace(made, links=(("device0", "device1", link),))
        return made

    slow = trace(of, (0.0, 2e4), end_s=100.0)

    traced = simulate(remote(cluster(1e5)), requests=6, interval_s=1e-3, scenario=slow)
    static = simulate(remote(cluster(2e4)), requests=6, interval_s=1e-3)

    assert traced.latencies_s == pytest.approx(static.latencies_s, rel=1e-9)


def test_a_trace_of_an_uplink_may_be_of_one_direction() -> None:
    cluster = msgspec.structs.replace(
        shared_medium(),
        segments=(Segment(name="rack", kind="uplink", members=("device1",), bandwidth_bytes_per_s=1280.0),),
    )
    made = remote(cluster)
    inwards = trace("uplink:rack:in", (0.0, 128.0), end_s=100.0)
    both = trace("uplink:rack", (0.0, 128.0), end_s=100.0)

    assert simulate(made, requests=1, cost=no_overhead(cluster)).latency_s == pytest.approx(0.2)
    assert simulate(made, requests=1, cost=no_overhead(cluster), scenario=inwards).latency_s == (
        pytest.approx(1.1)
    )
    assert simulate(made, requests=1, cost=no_overhead(cluster), scenario=both).latency_s == pytest.approx(
        2.0
    )


def test_a_trace_that_ends_too_early_says_how_far_it_went() -> None:
    cluster = shared_medium()
    short = trace("medium:air", (0.0, 1280.0), end_s=0.5)

    with pytest.raises(TraceEndedError) as caught:
        simulate(remote(cluster), requests=10, cost=no_overhead(cluster), scenario=short)

    assert "the trace of medium:air ended at 0.5 s" in str(caught.value)
    assert "2 of 10 requests were answered at 0.4" in str(caught.value)
    assert "repeat: true" in str(caught.value)
    assert caught.value.exit_code == 3


def test_a_trace_that_nobody_asks_is_an_error_too_when_it_is_too_short() -> None:
    cluster = shared_medium()
    graph = convs(3, 3)
    at_home = plan(graph, stage("all", _NAMES, whole(graph, "conv2d_1", 0)), cluster=cluster)

    with pytest.raises(TraceEndedError, match=r"3 of 3 requests were answered at 2\.0"):
        simulate(at_home, requests=3, interval_s=1.0, scenario=trace("medium:air", (0.0, 1.0), end_s=1.0))


def test_a_trace_may_be_repeated_for_ever() -> None:
    cluster = shared_medium()
    blinking = trace("medium:air", (0.0, 1280.0), (0.11, 0.0), end_s=0.2, repeat=True)

    report = simulate(remote(cluster), requests=10, cost=no_overhead(cluster), scenario=blinking)

    # 20 frames take 2 s of airtime, of which there are 0.11 s in every 0.2 s: 18 times, and 0.02 s.
    assert report.makespan_s == pytest.approx(18 * 0.2 + 0.02)
