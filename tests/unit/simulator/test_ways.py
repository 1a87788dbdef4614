"""Several ways to answer, limits on how many requests are under way, and what a report says of them."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from edgeflow.cluster.cluster import Cluster
from edgeflow.cost import CostModel, predict
from edgeflow.errors import ConfigError
from edgeflow.plan import Plan
from edgeflow.plan.verify import plan_memory_bytes
from edgeflow.simulator import MAX_IN_FLIGHT, ClosedLoop, Every, Poisson, simulate
from edgeflow.simulator.jobs import MAX_ACTIVE
from edgeflow.simulator.report import percentile, percentiles
from tests.unit.plan.tiny import convs, plan, stage, whole

_NAMES = ["conv2d", "conv2d_1"]


def devices(*speeds: float) -> Cluster:
    """At speed 1 both convolutions take 0.1 s together; frames and the network take no time to speak of."""
    cluster = Cluster.local([1.0] * len(speeds), bandwidth="1000 Gbit/s", latency=0)
    flops = 2 * 9 * 32 * 2
    made = tuple(
        msgspec.structs.replace(device, flops_per_second=flops * 10 * speed, overhead_s=0.0)
        for device, speed in zip(cluster.devices, speeds, strict=True)
    )
    return msgspec.structs.replace(cluster, devices=made)


def replicas(cluster: Cluster) -> Plan:
    graph = convs(3, 3)
    ways = [(stage("all", _NAMES, whole(graph, "conv2d_1", rank)),) for rank in cluster.ranks]
    made = plan(graph, *ways[0], cluster=cluster)
    return Plan(replace(made.decision, replicas=tuple(ways[1:])), made.weighed)


def no_overhead(cluster: Cluster) -> CostModel:
    return CostModel(cluster=cluster, message_overhead_s=0.0)


def test_requests_are_shared_out_by_when_they_are_expected_to_be_done() -> None:
    cluster = devices(1.0, 0.5)

    report = simulate(replicas(cluster), 300, interval_s=0.0, cost=no_overhead(cluster))

    shares = [sum(record.way == way for record in report.records) for way in (0, 1)]
    assert shares == [200, 100]
    # Twenty requests every second by the one, ten by the other.
    assert report.throughput_per_s == pytest.approx(15.0, rel=0.01)


def test_a_single_request_goes_the_fastest_way() -> None:
    cluster = devices(0.5, 1.0)
    made = replicas(cluster)

    report = simulate(made, 5, cost=no_overhead(cluster))

    assert {record.way for record in report.records} == {1}
    assert report.latency_s == pytest.approx(0.1, rel=1e-4)
    assert report.latency_s == pytest.approx(
        min(predict(way, no_overhead(cluster)).latency_s for way in made.ways)
    )


def test_two_requests_on_one_device_by_hand() -> None:
    cluster = devices(1.0)

    report = simulate(replicas(cluster), 2, arrivals=Every(0.04), cost=no_overhead(cluster), with_events=True)

    # The second arrives at 0.04, begins at 0.1 and is there at 0.2.
    assert report.latencies_s == pytest.approx((0.1, 0.16), rel=1e-3)
    kernels = [event for event in report.events if event.kind == "compute"]
    assert [event.request for event in kernels] == [0, 1]
    assert kernels[1].start_s == pytest.approx(kernels[0].stop_s, abs=1e-4)
    assert report.busy_share["device0"] == pytest.approx(1.0, rel=1e-3)
    assert set(report.timelines) == {"client", "device0"}


@pytest.mark.parametrize("limit", [1, 2, 8])
def test_no_more_requests_are_under_way_than_allowed(limit: int) -> None:
    cluster = devices(1.0, 1.0)
    graph = convs(3, 3)
    made = plan(
        graph,
        *(stage(name, [name], whole(graph, name, rank)) for rank, name in enumerate(_NAMES)),
        cluster=cluster,
    )

    report = simulate(
        made, 40, interval_s=0.0, cost=no_overhead(cluster), max_in_flight=limit, with_events=True
    )

    spans = [
        (
            min(event.start_s for event in report.events if event.request == number and event.rank < 0),
            report.records[number].answer_s,
        )
        for number in range(40)
    ]
    most = max(sum(start < stop_of <= stop for start, stop in spans) for _, stop_of in spans)
    assert most == limit
    # Two devices work at once only where two requests may be under way.
    assert report.throughput_per_s == pytest.approx(10.0 if limit == 1 else 20.0, rel=0.05)


def test_closed_loops_keep_as_many_requests_in_flight() -> None:
    cluster = devices(1.0)

    report = simulate(replicas(cluster), 50, arrivals=ClosedLoop(4), cost=no_overhead(cluster))

    # Each waits for three others.
    assert report.latencies_s[10:] == pytest.approx([0.4] * 40, rel=1e-3)
    assert report.records[4].arrival_s == pytest.approx(report.records[0].answer_s)


def test_a_queue_with_random_arrivals_is_as_long_as_theory_says() -> None:
    """M/D/1 at 60 % load: mean wait = rho / (2 (1 - rho)) of the service time."""
    cluster = devices(1.0)

    report = simulate(replicas(cluster), 20_000, arrivals=Poisson(6.0, seed=5), cost=no_overhead(cluster))

    assert report.latency_s == pytest.approx(0.1 * (1 + 0.6 / (2 * 0.4)), rel=0.05)


def test_memory_is_that_of_all_ways() -> None:
    cluster = devices(1.0, 0.5)
    made = replicas(cluster)

    report = simulate(made, 1)

    assert report.peak_memory_bytes == {
        cluster.devices[rank].name: num_bytes for rank, num_bytes in plan_memory_bytes(made.decision).items()
    }


def test_percentiles_are_nearest_ranks() -> None:
    values = [float(value) for value in range(1, 201)]

    assert percentiles(values[::-1]) == {50: 100.0, 90: 180.0, 95: 190.0, 99: 198.0, 100: 200.0}
    assert percentile([7.0], 50) == percentile([7.0], 0.1) == 7.0


def test_limits_are_those_of_the_runtime() -> None:
    from edgeflow.coordinator import session
    from edgeflow.worker import state

    assert MAX_IN_FLIGHT == session.MAX_IN_FLIGHT
    assert MAX_ACTIVE == state.MAX_ACTIVE


def test_arguments_that_contradict_each_other() -> None:
    made = replicas(devices(1.0))

    with pytest.raises(ConfigError, match="either interval_s or arrivals"):
        simulate(made, 2, interval_s=1.0, arrivals=Every(1.0))
    with pytest.raises(ConfigError, match="max_in_flight must be at least 1, got 0"):
        simulate(made, 2, max_in_flight=0)
