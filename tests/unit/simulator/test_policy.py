"""The reference policy: re-plans when measured speeds say that it pays, and not more often."""

from __future__ import annotations

import msgspec
import pytest

from edgeflow.balancer.history import BLOCK_S
from edgeflow.cluster.cluster import Cluster
from edgeflow.cost import CostModel
from edgeflow.errors import ConfigError, InfeasiblePlanError
from edgeflow.graph.ir import ModelGraph
from edgeflow.plan import Plan
from edgeflow.planner import plan as make_plan
from edgeflow.simulator import (
    Change,
    Every,
    MeasuredSpeeds,
    Observation,
    Reaction,
    Scenario,
    Thresholds,
    simulate,
)
from tests.unit.plan.tiny import convs


def cluster() -> Cluster:
    """The second device is half as fast as the first, and both are slow enough for frames not to matter."""
    made = Cluster.local([1.0, 0.5], bandwidth="100 Gbit/s", latency=0)
    devices = tuple(
        msgspec.structs.replace(device, flops_per_second=14_400 * speed, overhead_s=0.0)
        for device, speed in zip(made.devices, (1.0, 0.5), strict=True)
    )
    return msgspec.structs.replace(made, devices=devices)


GRAPH = convs(3, 3)


def best(graph: ModelGraph, cluster: Cluster, cost: CostModel) -> Plan:
    return make_plan(graph, cluster, "single", cost=cost)


def seen(device: str, slowness: float, stop_s: float) -> list[Observation]:
    """As many as are needed to be believed."""
    return [
        Observation(
            kind="compute", device=device, stop_s=stop_s - i * BLOCK_S, seconds=slowness, expected_s=1.0
        )
        for i in reversed(range(10))
    ]


def policy(**thresholds: float) -> MeasuredSpeeds:
    made = MeasuredSpeeds(Thresholds(**thresholds), planner=best)
    made.switched(best(GRAPH, cluster(), CostModel(cluster=cluster())), cluster(), 0.0)
    return made


def test_a_device_that_is_slow_enough_is_left() -> None:
    made = policy(cool_down_s=0.0)
    made.observe(seen("device0", 4.0, 1.0))

    chosen = made.decide(1.0)

    assert chosen is not None
    assert chosen.devices == (1,)
    assert made.slowness(1.0)["device0"] == pytest.approx(4.0)


def test_a_small_gain_is_not_worth_a_switch() -> None:
    # At 2.1 times its time, the first device is only just worse than the second.
    eager, lazy = policy(cool_down_s=0.0, gain=0.0), policy(cool_down_s=0.0, gain=0.2)
    for made in (eager, lazy):
        made.observe(seen("device0", 2.1, 1.0))

    assert eager.decide(1.0) is not None
    assert lazy.decide(1.0) is None


def test_no_switch_while_cooling_down() -> None:
    made = policy(cool_down_s=5.0)
    made.observe(seen("device0", 4.0, 1.0))

    assert made.decide(4.9) is None
    assert made.decide(5.0) is not None


def test_old_news_is_forgotten() -> None:
    made = policy(cool_down_s=0.0, forget_s=10.0)
    made.observe(seen("device0", 4.0, 2.0))

    assert made.slowness(12.0)["device0"] == pytest.approx(4.0)
    assert made.slowness(12.1)["device0"] == pytest.approx(1.0)


def test_the_same_beliefs_are_not_planned_for_twice() -> None:
    asked: list[float] = []

    def counted(graph: ModelGraph, cluster: Cluster, cost: CostModel) -> Plan:
        asked.append(1.0)
        return best(graph, cluster, cost)

    made = MeasuredSpeeds(Thresholds(cool_down_s=0.0), planner=counted)
    made.switched(best(GRAPH, cluster(), CostModel(cluster=cluster())), cluster(), 0.0)

    assert [made.decide(float(second)) for second in range(5)] == [None] * 5
    assert len(asked) == 1
    made.observe(seen("device0", 1.5, 1.0))
    made.decide(6.0)
    assert len(asked) == 2


def test_beliefs_hold_for_the_plan_after_a_loss() -> None:
    made = policy(cool_down_s=0.0)
    made.observe(seen("device0", 4.0, 1.0))

    assert made.replan(cluster()).devices == (1,)
    assert made.replan(cluster()).predicted_latency_s == pytest.approx(2 * best_alone_s(), rel=1e-2)


def best_alone_s() -> float:
    return best(GRAPH, cluster(), CostModel(cluster=cluster())).predicted_latency_s


def test_where_nothing_fits_it_goes_on_as_it_is() -> None:
    def none(graph: ModelGraph, cluster: Cluster, cost: CostModel) -> Plan:
        raise InfeasiblePlanError("too little memory", constraint="memory")

    made = MeasuredSpeeds(Thresholds(cool_down_s=0.0), planner=none)
    assert made.decide(1.0) is None  # it knows of no plan yet
    made.switched(best(GRAPH, cluster(), CostModel(cluster=cluster())), cluster(), 0.0)
    assert made.decide(1.0) is None


def test_in_the_loop_it_leaves_a_slow_device_and_comes_back() -> None:
    """The first device slows down to a tenth at 5 s and recovers at 20 s."""
    watcher = MeasuredSpeeds(Thresholds(cool_down_s=2.0, forget_s=10.0))
    scenario = Scenario(
        changes=(
            Change(time_s=5.0, kind="slow", device="device0", factor=0.1),
            Change(time_s=20.0, kind="slow", device="device0"),
        )
    )
    made = make_plan(convs(3, 3), cluster(), "single")

    alone = simulate(made, 200, arrivals=Every(0.2), scenario=scenario)
    watched = simulate(
        made,
        200,
        arrivals=Every(0.2),
        scenario=scenario,
        balancer=watcher,
        replan=watcher.replan,
        reaction=Reaction(switch_s=0.2, interval_s=0.5),
    )

    assert watched.latency_s < 0.5 * alone.latency_s
    assert watched.num_lost == watched.num_replayed == 0
    assert [item.reason for item in watched.switches][:2] == ["start", "balancer"]
    # It takes more than half of thirteen durations to tell a step from outliers, and each takes 0.8 s now.
    assert watched.switches[1].time_s < 13.0
    assert watched.switches[1].chosen == "single on device1"
    assert watched.switches[-1].chosen == "single on device0"
    assert watched.latencies_s[-1] == pytest.approx(alone.latencies_s[0], rel=1e-6)


@pytest.mark.parametrize("probe_every_s", [0.0, 3.0])
def test_in_the_loop_probes_tell_that_a_device_is_still_slow(probe_every_s: float) -> None:
    """Without them it is forgotten after 10 s, and tried again as soon as that.

    The plan that takes its place has a queue to work off at first, and is not blamed for that.
    """
    watcher = MeasuredSpeeds(Thresholds(cool_down_s=2.0, forget_s=10.0))
    scenario = Scenario(
        changes=(
            Change(time_s=5.0, kind="slow", device="device0", factor=0.1),
            Change(time_s=50.0, kind="slow", device="device0"),
        )
    )
    report = simulate(
        make_plan(convs(3, 3), cluster(), "single"),
        400,
        arrivals=Every(0.2),
        scenario=scenario,
        balancer=watcher,
        replan=watcher.replan,
        reaction=Reaction(switch_s=0.2, interval_s=0.5, probe_every_s=probe_every_s),
    )
    early = [item for item in report.switches if 15.0 < item.time_s < 50.0]
    assert bool(early) == (probe_every_s == 0)
    assert report.switches[-1].chosen == "single on device0"


def test_in_the_loop_a_plan_that_proves_worse_is_left() -> None:
    """The planner is mistaken: requests take twice as long by the plan that it says is better."""
    made = make_plan(convs(3, 3), cluster(), "single")
    watcher = MeasuredSpeeds(Thresholds(cool_down_s=4.0), cost=wrong_by_four())
    report = simulate(
        made,
        300,
        arrivals=Every(0.2),
        balancer=watcher,
        replan=watcher.replan,
        reaction=Reaction(switch_s=0.2, interval_s=0.5),
    )
    assert [item.chosen for item in report.switches][1:3] == ["single on device1", "single on device0"]
    assert any(item.reason.startswith("back") for item in watcher.decisions)


def wrong_by_four() -> CostModel:
    """The second device is taken to be twice as fast as the first; it is half as fast."""
    return CostModel(cluster=cluster(), corrections={"device1": {"*": 0.25}})


@pytest.mark.parametrize(
    "wrong", [{"gain": 1.0}, {"gain": -0.1}, {"forget_s": -1.0}, {"doubt": float("inf")}]
)
def test_thresholds_out_of_range(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="must be in"):
        Thresholds(**wrong)
