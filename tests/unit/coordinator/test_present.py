"""The devices that may be used now, and plans for them, which are remembered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest

from edgeflow.balancer import Rebalancer
from edgeflow.cluster.cluster import Cluster
from edgeflow.coordinator import present as module
from edgeflow.coordinator.members import Members, Watch
from edgeflow.coordinator.present import Present
from edgeflow.coordinator.watchers import Watchers
from edgeflow.errors import InfeasiblePlanError
from edgeflow.plan import Plan
from edgeflow.testing.virtual import VirtualThreads
from tests.clusters import slow


class Balancer:
    """Makes "plans": the names of the devices that they are for."""

    def __init__(self) -> None:
        self.graph = "A"
        self.estimates = 1.0
        self.asked: list[tuple[str, ...]] = []
        self.refuses: set[tuple[str, ...]] = set()

    def in_short(self, cluster: Cluster) -> object:
        return self.estimates

    def request(self, cluster: Cluster) -> Callable[[], Plan]:
        names, graph = tuple(device.name for device in cluster.devices), self.graph

        def make() -> Plan:
            self.asked.append(names)
            if names in self.refuses:
                raise InfeasiblePlanError("no", constraint="link")
            return cast(Plan, (graph, names))

        return make


class World:
    def __init__(self) -> None:
        self.threads = VirtualThreads()
        self.balancer = Balancer()
        self.cluster = slow([1.0, 0.5, 0.25])

        class Watching:
            lock = self.threads.lock()
            cluster = self.cluster
            members = Members((device.name for device in self.cluster.devices), Watch(), 0.0)

        self.members = Watching.members
        self.present = Present(cast(Watchers, Watching), cast(Rebalancer, self.balancer), self.threads)

    def names(self) -> tuple[str, ...]:
        return tuple(device.name for device in self.present.cluster().devices)

    def plan(self) -> Any:
        return self.present.request()()


@pytest.fixture
def world() -> World:
    return World()


def test_all_devices_are_there_at_first(world: World) -> None:
    assert world.present.cluster() is world.cluster


def test_devices_that_are_lost_or_unfit_are_left_out(world: World) -> None:
    world.members.lost("device1", "gone")
    assert world.names() == ("device0", "device2")
    world.members.unfit("device2", 0.0, 5.0)
    assert world.names() == ("device0",)
    world.threads.sleep(5.1)
    assert world.names() == ("device0", "device2")


def test_without_any_device_there_is_no_plan(world: World) -> None:
    for name in ("device0", "device1", "device2"):
        world.members.lost(name, "gone")
    with pytest.raises(InfeasiblePlanError, match="no worker is left") as caught:
        world.present.request()
    assert caught.value.constraint == "devices"


def test_a_link_that_is_lost_is_not_in_the_cluster(world: World) -> None:
    world.members.strike("device1", "device2", 10.0, is_certain=True)
    cluster = world.present.cluster()
    assert {(a, b) for a, b, link in cluster.links if link is None} == {
        ("device1", "device2"),
        ("device2", "device1"),
    }


def test_of_two_that_cannot_reach_each_other_the_slower_one_stands_back_if_it_must(world: World) -> None:
    world.members.strike("device1", "device2", 10.0, is_certain=True)
    assert world.plan() == ("A", ("device0", "device1", "device2"))
    world.present.forget_plans()
    world.balancer.refuses = {("device0", "device1", "device2")}
    assert world.plan() == ("A", ("device0", "device1"))


def test_the_source_does_not_stand_back(world: World) -> None:
    """Whether or not it is the slower one, requests arrive there."""
    source = world.cluster.devices[world.cluster.source_rank].name
    other = next(device.name for device in world.cluster.devices if device.name != source)
    assert module._later(world.cluster, (source, other)) == other
    assert module._later(world.cluster, (other, source)) == other


def test_what_the_last_planner_raises_is_raised(world: World) -> None:
    world.balancer.refuses = {("device0", "device1", "device2")}
    with pytest.raises(InfeasiblePlanError, match="no"):
        world.plan()
    assert len(world.balancer.asked) == 1


def test_plans_are_remembered_by_devices_and_estimates(world: World) -> None:
    assert world.plan() is world.plan()
    assert len(world.balancer.asked) == 1
    world.balancer.estimates = 2.0
    world.plan()
    world.members.lost("device2", "gone")
    world.plan()
    assert len(world.balancer.asked) == 3
    world.balancer.estimates = 1.0
    world.members.heard("device2", "i", 0.0)
    world.plan()
    assert len(world.balancer.asked) == 3


def test_so_many_plans_are_remembered(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_PLANS", 3)
    for estimates in range(10):
        world.balancer.estimates = estimates
        world.plan()
        assert len(world.present._plans) <= 3


def test_another_graph_has_other_plans_also_while_one_of_the_old_is_being_made(world: World) -> None:
    make_old = world.present.request()
    world.balancer.graph = "B"
    world.present.forget_plans()
    assert cast(Any, make_old())[0] == "A"
    assert world.plan()[0] == "B"
