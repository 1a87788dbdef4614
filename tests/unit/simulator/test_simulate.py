"""Requests that contend: one after another, all at once, in a pipeline; energy and bytes by hand."""

from __future__ import annotations

import msgspec
import pytest

from edgeflow.cluster.cluster import Cluster
from edgeflow.cost import CostModel, predict
from edgeflow.errors import ConfigError
from edgeflow.plan import Plan
from edgeflow.simulator import simulate
from tests.unit.plan.tiny import convs, cut, plan, stage, whole

_NAMES = ["conv2d", "conv2d_1"]


def one_device(cluster: Cluster) -> Plan:
    graph = convs(3, 3)
    return plan(graph, stage("all", _NAMES, whole(graph, "conv2d_1", 0)), cluster=cluster)


def pipeline(cluster: Cluster) -> Plan:
    graph = convs(3, 3)
    stages = [stage(name, [name], whole(graph, name, rank)) for rank, name in enumerate(_NAMES)]
    return plan(graph, *stages, cluster=cluster)


def rows(cluster: Cluster) -> Plan:
    graph = convs(3, 3)
    halves = {0: (0, 4), 1: (4, 8)}
    return plan(
        graph, *(stage(name, [name], cut(graph, name, 2, halves)) for name in _NAMES), cluster=cluster
    )


def slow_devices(**changes: float) -> Cluster:
    """Two devices so slow that a convolution takes about 40 ms, on a network that costs next to nothing."""
    cluster = Cluster.local([1.0, 1.0], bandwidth="100 Gbit/s", latency=0)
    devices = tuple(
        msgspec.structs.replace(device, flops_per_second=14_400, overhead_s=0.0, **changes)
        for device in cluster.devices
    )
    return msgspec.structs.replace(cluster, devices=devices)


@pytest.mark.parametrize("make", [one_device, pipeline, rows])
def test_one_request_takes_as_long_as_predicted(make: object) -> None:
    made: Plan = make(Cluster.local([1.0, 0.4], bandwidth="20 Mbit/s", latency="3 ms"))  # type: ignore[operator]

    report = simulate(made, requests=1)

    assert report.latency_s == pytest.approx(predict(made).latency_s, rel=1e-12)
    assert report.transferred_bytes == predict(made).transferred_bytes
    assert report.throughput_per_s == pytest.approx(1 / report.latency_s)


def test_requests_one_after_another_do_not_disturb_each_other() -> None:
    report = simulate(pipeline(slow_devices()), requests=5)

    assert report.latencies_s == pytest.approx([report.latencies_s[0]] * 5)
    assert report.p95_latency_s == pytest.approx(report.latency_s)
    assert report.throughput_per_s == pytest.approx(1 / report.latency_s)


def test_a_pipeline_of_two_devices_answers_twice_as_many_requests() -> None:
    cluster = slow_devices()

    alone = simulate(one_device(cluster), requests=50, interval_s=0.0)
    together = simulate(pipeline(cluster), requests=50, interval_s=0.0)

    assert together.throughput_per_s == pytest.approx(2 * alone.throughput_per_s, rel=0.05)
    assert together.busy_share == pytest.approx({"device0": 1.0, "device1": 1.0}, abs=0.05)


def test_requests_that_come_at_once_queue_up() -> None:
    report = simulate(one_device(slow_devices()), requests=20, interval_s=0.0)

    # The n-th waits for n - 1 others: from 1 to 20 times the first one's latency.
    assert report.latencies_s[-1] == pytest.approx(20 * report.latencies_s[0], rel=0.05)
    assert report.latency_s == pytest.approx(10.5 * report.latencies_s[0], rel=0.05)
    # Nearest rank: the 19th of 20.
    assert report.p95_latency_s == sorted(report.latencies_s)[18]


def test_the_request_that_was_asked_first_goes_first() -> None:
    """Its answer does not wait for others that were let in meanwhile."""
    report = simulate(pipeline(slow_devices()), requests=10, interval_s=0.0)

    assert report.latencies_s[0] == pytest.approx(predict(pipeline(slow_devices())).latency_s, rel=0.1)
    assert sorted(report.latencies_s) == list(report.latencies_s)


def test_requests_that_come_slowly_find_an_idle_cluster() -> None:
    report = simulate(one_device(slow_devices()), requests=4, interval_s=10.0)

    assert report.latencies_s == pytest.approx([predict(one_device(slow_devices())).latency_s] * 4)
    assert report.throughput_per_s == pytest.approx(4 / (30.0 + report.latency_s))


def test_energy_is_idle_power_all_the_time_and_compute_power_while_busy() -> None:
    cluster = slow_devices(power_idle_w=2.0, power_compute_w=5.0)
    made = one_device(cluster)
    busy_s = predict(made).busy_s["processor:device0"]

    report = simulate(made, requests=3)

    makespan_s = 3 * report.latency_s
    # Two devices rest all the time; one works, and frames are work too.
    assert report.energy_j == pytest.approx(2 * 2.0 * makespan_s + 5.0 * 3 * busy_s)
    assert report.energy_j == pytest.approx(3 * predict(made).energy_j)
    compute_s = predict(made).compute_s[0]
    assert report.busy_share == {"device0": pytest.approx(compute_s / report.latency_s)}
    assert report.resource_busy_share == {"processor:device0": pytest.approx(busy_s / report.latency_s)}


def test_bytes_add_up_over_requests() -> None:
    made = rows(Cluster.local([1.0, 1.0]))

    report = simulate(made, requests=7)

    # Of the client on device 0: five rows of input to device 1, four rows of answer back; halos of one row.
    assert report.transferred_bytes == 7 * (80 + 64 + 2 * 16)
    assert report.transferred_bytes == 7 * predict(made).transferred_bytes


def test_the_timeline_names_requests() -> None:
    report = simulate(pipeline(slow_devices()), requests=3, interval_s=0.0, with_events=True)

    assert {event.request for event in report.events} == {0, 1, 2}
    assert all(event.start_s <= event.stop_s for event in report.events)
    assert simulate(pipeline(slow_devices()), requests=3).events == ()


def test_costs_may_be_given() -> None:
    made = pipeline(slow_devices())
    cost = CostModel(cluster=made.cluster, message_overhead_s=1.0)

    assert simulate(made, requests=1, cost=cost).latency_s == pytest.approx(predict(made, cost).latency_s)
    assert simulate(made, requests=1, cost=cost).latency_s > 4.0


def test_memory_is_reported_by_name() -> None:
    report = simulate(rows(Cluster.local([1.0, 1.0])), requests=1)

    assert set(report.peak_memory_bytes) == {"device0", "device1"}
    assert min(report.peak_memory_bytes.values()) > 80


@pytest.mark.parametrize("requests", [0, -3])
def test_no_requests(requests: int) -> None:
    with pytest.raises(ConfigError, match=f"requests must be at least 1, got {requests}"):
        simulate(one_device(slow_devices()), requests=requests)


def test_an_interval_back_in_time() -> None:
    with pytest.raises(ConfigError, match=r"interval_s must not be negative, got -0\.5"):
        simulate(one_device(slow_devices()), requests=2, interval_s=-0.5)
