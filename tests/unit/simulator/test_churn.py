"""Devices that go, come, slow down and recover: nothing is lost, nothing is answered twice."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import msgspec
import pytest

from edgeflow.cluster.cluster import Cluster
from edgeflow.cost import predict
from edgeflow.errors import ConfigError, InfeasiblePlanError
from edgeflow.plan import Figures, Plan
from edgeflow.simulator import (
    Change,
    ClosedLoop,
    Every,
    Observation,
    Poisson,
    Reaction,
    Scenario,
    SimulationReport,
    Trace,
    simulate,
)
from tests.unit.plan.tiny import convs, plan, stage, whole

_NAMES = ["conv2d", "conv2d_1"]
QUICK = Reaction(detection_s=0.2, switch_s=0.1, interval_s=0.5)


def slow_devices(count: int = 2, **changes: float) -> Cluster:
    """Devices so slow that both convolutions take about 80 ms, on a network that costs next to nothing."""
    cluster = Cluster.local([1.0] * count, bandwidth="100 Gbit/s", latency=0)
    devices = tuple(
        msgspec.structs.replace(device, flops_per_second=14_400, overhead_s=0.0, **changes)
        for device in cluster.devices
    )
    return msgspec.structs.replace(cluster, devices=devices)


def pipeline(cluster: Cluster) -> Plan:
    """One convolution on the first device and one on the last."""
    graph = convs(3, 3)
    ranks = (0, len(cluster.devices) - 1)
    stages = [stage(name, [name], whole(graph, name, rank)) for rank, name in zip(ranks, _NAMES, strict=True)]
    return plan(graph, *stages, cluster=cluster)


def replicas(cluster: Cluster) -> Plan:
    """The whole model on every device."""
    graph = convs(3, 3)
    ways = [(stage("all", _NAMES, whole(graph, "conv2d_1", rank)),) for rank in cluster.ranks]
    made = plan(graph, *ways[0], cluster=cluster)
    return Plan(replace(made.decision, replicas=tuple(ways[1:])), made.weighed)


def lose(device: str, at_s: float) -> Change:
    return Change(time_s=at_s, kind="lose", device=device)


def join(device: str, at_s: float) -> Change:
    return Change(time_s=at_s, kind="join", device=device)


def slow(device: str, at_s: float, factor: float) -> Change:
    return Change(time_s=at_s, kind="slow", device=device, factor=factor)


def check_complete(report: SimulationReport, requests: int) -> None:
    """Every request has exactly one answer, after its arrival."""
    assert [record.number for record in report.records] == list(range(requests))
    assert all(record.answer_s > record.arrival_s for record in report.records)
    assert len(report.latencies_s) == requests
    assert report.num_lost == 0


def test_requests_on_a_lost_device_are_begun_again_on_the_others() -> None:
    scenario = Scenario(changes=(lose("device1", 1.0),))

    report = simulate(
        pipeline(slow_devices()),
        40,
        arrivals=Every(0.1),
        scenario=scenario,
        replan=lambda cluster: pipeline(cluster),
        reaction=QUICK,
    )

    check_complete(report, 40)
    replayed = [record for record in report.records if record.attempts > 1]
    assert report.num_replayed == len(replayed) > 0
    # What was under way at 1.0 is stuck until it is noticed at 1.2, and begun at 1.3.
    assert min(record.answer_s for record in replayed) > 1.3
    assert all(record.arrival_s <= 1.2 for record in replayed)
    assert [(item.reason, item.time_s) for item in report.switches] == [
        ("start", 0.0),
        ("lost device1", pytest.approx(1.3)),
    ]
    assert all(record.plan == (record.answer_s > 1.3) for record in report.records)


def test_the_default_is_to_plan_again_by_the_same_strategy() -> None:
    made = pipeline(slow_devices()).reweighed(strategy="single")

    report = simulate(
        made, 20, arrivals=Every(0.1), scenario=Scenario(changes=(lose("device1", 0.5),)), reaction=QUICK
    )

    check_complete(report, 20)
    assert [item.strategy for item in report.switches] == ["single", "single"]
    assert report.switches[1].chosen == "single on device0"


def test_another_way_takes_over_while_the_new_plan_is_prepared() -> None:
    slowly = Reaction(detection_s=0.2, switch_s=1000.0)
    report = simulate(
        replicas(slow_devices()),
        60,
        arrivals=Every(0.1),
        scenario=Scenario(changes=(lose("device1", 1.0),)),
        reaction=slowly,
        replan=replicas,
    )

    check_complete(report, 60)
    late = [record for record in report.records if record.answer_s > 1.2]
    assert {record.way for record in late} == {0}
    assert {record.way for record in report.records} == {0, 1}


def test_a_loss_of_a_device_that_is_not_used_changes_nothing() -> None:
    made = pipeline(slow_devices(3))  # on the first and the last
    calm = simulate(made, 20, arrivals=Every(0.1))

    report = simulate(made, 20, arrivals=Every(0.1), scenario=Scenario(changes=(lose("device1", 1.0),)))

    assert report.latencies_s == calm.latencies_s
    assert len(report.switches) == 1


def test_a_device_that_comes_back_is_used_again_if_that_is_better() -> None:
    """Planned for throughput: two devices answer more than one."""

    def make(cluster: Cluster) -> Plan:
        made = pipeline(cluster) if len(cluster.devices) > 1 else replicas(cluster)
        return made.reweighed(objective="throughput", figures=Figures(period_s=predict(made).period_s))

    report = simulate(
        make(slow_devices()),
        100,
        arrivals=Every(0.05),
        scenario=Scenario(changes=(lose("device1", 1.0), join("device1", 2.0))),
        replan=make,
        reaction=QUICK,
    )

    check_complete(report, 100)
    assert [item.reason for item in report.switches] == ["start", "lost device1", "joined device1"]
    assert report.switches[2].time_s == pytest.approx(2.3)


def test_a_device_that_joins_was_not_there_before() -> None:
    whole_cluster = slow_devices()
    scenario = Scenario(changes=(join("device1", 1.0),))

    def make(cluster: Cluster) -> Plan:
        made = replicas(cluster)
        return made.reweighed(objective="throughput", figures=Figures(period_s=0.1 / len(cluster.devices)))

    report = simulate(
        make(scenario.initial(whole_cluster)),
        60,
        arrivals=Every(0.05),
        scenario=scenario,
        cluster=whole_cluster,
        replan=make,
        reaction=QUICK,
    )

    check_complete(report, 60)
    assert {record.way for record in report.records if record.plan == 0} == {0}
    assert {record.way for record in report.records if record.plan == 1} == {0, 1}
    with pytest.raises(
        ConfigError, match="the plan uses device 'device1', which scenario '' lets join later"
    ):
        simulate(make(whole_cluster), 1, scenario=scenario)


def test_requests_wait_where_no_plan_can_be_made_until_a_device_is_back() -> None:
    def make(cluster: Cluster) -> Plan:
        if len(cluster.devices) == 1:
            raise InfeasiblePlanError("too little memory", constraint="memory")
        return pipeline(cluster)

    scenario = Scenario(changes=(lose("device1", 1.0), join("device1", 3.0)))
    report = simulate(
        pipeline(slow_devices()), 30, arrivals=Every(0.1), scenario=scenario, replan=make, reaction=QUICK
    )

    check_complete(report, 30)
    assert [(item.reason, item.problem) for item in report.switches] == [
        ("start", ""),
        ("lost device1", "too little memory"),
        ("joined device1", ""),
    ]
    assert not [record for record in report.records if 1.0 < record.answer_s < 3.3]


def test_what_is_never_answered_is_said_to_be_lost() -> None:
    def never(cluster: Cluster) -> Plan:
        raise InfeasiblePlanError("too little memory", constraint="memory")

    made = pipeline(slow_devices())
    late, early = (Scenario(changes=(lose("device1", at_s),)) for at_s in (1.0, 0.0))

    report = simulate(made, 30, arrivals=Every(0.1), scenario=late, replan=never)

    assert 0 < report.num_lost < 30
    assert len(report.latencies_s) == 30 - report.num_lost
    assert sum(math.isnan(record.answer_s) for record in report.records) == report.num_lost
    with pytest.raises(InfeasiblePlanError, match="no request was ever answered: too little memory"):
        simulate(made, 3, scenario=early, replan=never)


def test_a_device_that_is_lost_again_before_the_switch() -> None:
    """The plan that was being prepared is dropped, another one follows."""
    scenario = Scenario(changes=(lose("device2", 1.0), lose("device1", 1.05)))
    report = simulate(
        pipeline(slow_devices(3)),
        40,
        arrivals=Every(0.1),
        scenario=scenario,
        replan=pipeline,
        reaction=QUICK,
    )

    check_complete(report, 40)
    assert report.switches[-1].reason == "lost device1"


def test_a_slow_device_takes_longer_and_recovers() -> None:
    made = replicas(slow_devices(1))
    latency_s = predict(made).latency_s
    scenario = Scenario(changes=(slow("device0", 1.0, 0.5), slow("device0", 3.0, 1.0)))

    report = simulate(made, 50, arrivals=Every(1.0), scenario=scenario)

    assert report.latencies_s[0] == pytest.approx(latency_s)
    # The source's copies are as slow as the rest; the memory link between both is not.
    assert report.latencies_s[1:3] == pytest.approx([2 * latency_s] * 2, rel=1e-3)
    assert report.latencies_s[4:] == pytest.approx([latency_s] * 46)


def test_a_speed_may_be_a_trace() -> None:
    made = replicas(slow_devices(1))
    events = Scenario(changes=(slow("device0", 1.0, 0.5), slow("device0", 3.0, 1.0)))
    trace = Trace(of="device:device0", times_s=(0.0, 1.0, 3.0), values=(1.0, 0.5, 1.0), duration_s=60.0)

    by_events = simulate(made, 50, arrivals=Every(0.2), scenario=events)
    by_trace = simulate(made, 50, arrivals=Every(0.2), scenario=Scenario(traces=(trace,)))

    assert by_events.latencies_s == by_trace.latencies_s


def test_a_device_that_is_gone_spends_nothing() -> None:
    cluster = slow_devices(power_idle_w=3.0)
    made = replicas(msgspec.structs.replace(cluster, devices=cluster.devices[:1]))

    report = simulate(
        made,
        11,
        arrivals=Every(1.0),
        cluster=cluster,
        scenario=Scenario(changes=(lose("device1", 4.0), join("device1", 6.0), lose("device1", 7.0))),
        replan=lambda cluster: made,
    )

    assert report.energy_j == pytest.approx(3.0 * (report.makespan_s + 5.0))


def test_the_same_seed_gives_the_same_day() -> None:
    def day(seed: int) -> SimulationReport:
        return simulate(
            replicas(slow_devices(3)),
            200,
            arrivals=Poisson(30.0, seed=seed),
            scenario=Scenario(changes=(lose("device2", 2.0), slow("device1", 1.0, 0.3))),
            replan=replicas,
            reaction=QUICK,
        )

    check_complete(day(1), 200)
    assert day(1) == day(1)
    assert day(1).latencies_s != day(2).latencies_s


class _Scripted:
    """A balancer that asks for one plan at one moment, and keeps what it has seen."""

    def __init__(self, plan: Plan, at_s: float) -> None:
        self._plan, self._at_s = plan, at_s
        self.seen: list[Observation] = []
        self.switches: list[float] = []
        self.asked: list[float] = []

    def switched(self, plan: Plan, cluster: Cluster, now_s: float) -> None:
        self.switches.append(now_s)

    def observe(self, observations: Sequence[Observation]) -> None:
        self.seen += observations

    def decide(self, now_s: float) -> Plan | None:
        self.asked.append(now_s)
        return self._plan if now_s == self._at_s else None


def test_a_balancer_sees_every_duration_and_may_switch() -> None:
    cluster = slow_devices()
    made = pipeline(cluster)
    balancer = _Scripted(replicas(cluster), at_s=1.0)

    report = simulate(made, 30, arrivals=Every(0.1), balancer=balancer, reaction=QUICK)

    check_complete(report, 30)
    assert balancer.asked[:2] == [0.5, 1.0]
    assert balancer.switches == [0.0, pytest.approx(1.1)]
    assert [item.reason for item in report.switches] == ["start", "balancer"]
    # What had begun by the first plan ended by it; nothing was begun twice.
    assert report.num_replayed == 0
    kernels = [item for item in balancer.seen if item.kind == "compute"]
    assert {item.device for item in kernels} == {"device0", "device1"}
    assert all(item.seconds == pytest.approx(item.expected_s) for item in kernels)
    assert {(item.device, item.peer) for item in balancer.seen if item.kind == "transfer"} >= {
        ("device0", "device1"),
        ("device1", "device0"),
    }
    requests = [item for item in balancer.seen if item.kind == "request"]
    assert {item.device for item in requests} == {"device0"}
    # Nothing waits at the client here, and the last ones are answered after the last question.
    latencies = sorted(report.latencies_s)
    assert len(requests) > 20
    assert all(min(abs(item.seconds - s) for s in latencies) < 1e-9 for item in requests)


def test_a_balancer_sees_probes_of_devices_that_the_plan_does_not_use() -> None:
    cluster = slow_devices(3)
    scenario = Scenario(
        changes=(
            Change(time_s=2.0, kind="slow", device="device1", factor=0.25),
            Change(time_s=5.0, kind="lose", device="device1"),
        )
    )
    made = pipeline(cluster)  # on the first device and the last
    balancer = _Scripted(made, at_s=math.inf)
    simulate(made, 60, arrivals=Every(0.2), scenario=scenario, balancer=balancer, reaction=QUICK)

    probes = [item for item in balancer.seen if item.kind == "probe"]
    first = [item for item in probes if item.stop_s == 0.0]
    assert sorted(item.device for item in first) == sorted(["device0", "device1", "device2"] * 3)
    (later,) = (item for item in probes if item.stop_s > 0.0)  # the next one finds it gone
    assert (later.device, later.stop_s) == ("device1", 3.0)
    assert later.seconds == pytest.approx(4 * first[0].seconds)


def test_a_balancer_does_not_keep_a_simulation_alive() -> None:
    def never(cluster: Cluster) -> Plan:
        raise InfeasiblePlanError("too little memory", constraint="memory")

    made = pipeline(slow_devices())
    report = simulate(
        made,
        10,
        arrivals=ClosedLoop(2),
        scenario=Scenario(changes=(lose("device1", 0.3),)),
        replan=never,
        balancer=_Scripted(made, at_s=-1.0),
    )

    assert report.num_lost > 0


def test_a_plan_for_other_devices_is_refused() -> None:
    made = pipeline(slow_devices())
    other = Cluster.local([1.0, 1.0], name="other")
    renamed = msgspec.structs.replace(
        other, devices=(other.devices[0], msgspec.structs.replace(other.devices[1], name="tv"))
    )

    with pytest.raises(ConfigError, match="the plan's device 'device1' is not in cluster 'other'"):
        simulate(made, 1, cluster=renamed)
    with pytest.raises(
        ConfigError, match="requests arrive at 'device0' in the plan's cluster and at 'device1'"
    ):
        simulate(made, 1, cluster=msgspec.structs.replace(other, source="device1"))
