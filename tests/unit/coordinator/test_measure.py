"""Measurements: records of epochs and probes of idle devices become observations, in order of time."""

from __future__ import annotations

import itertools
from typing import Any, cast

import pytest

from edgeflow.balancer import Observation, Rebalancer
from edgeflow.coordinator.epoch import Epoch
from edgeflow.coordinator.measure import Measurements
from edgeflow.coordinator.members import Members, Watch
from edgeflow.coordinator.watchers import Watchers
from edgeflow.errors import WorkerUnreachableError
from edgeflow.plan import Plan
from edgeflow.plan.program import Compute
from edgeflow.planner import plan as make_plan
from edgeflow.testing.virtual import VirtualThreads
from tests.clusters import slow
from tests.unit.plan.tiny import mlp

WATCH = Watch(probe_every_s=3.0, probe_s=0.3)


class Balancer:
    idle_devices = ("device1", "device2")

    def __init__(self) -> None:
        self.observed: list[list[Observation]] = []

    def observe(self, observations: Any) -> None:
        self.observed.append([*observations])


class Control:
    """A worker that takes so long for a piece of work."""

    def __init__(self, world: World, device: str) -> None:
        self._world = world
        self._device = device

    def probe(self, duration_s: float, *, timeout_s: float) -> float:
        assert (duration_s, timeout_s) == (WATCH.probe_s, 5 * WATCH.probe_s + 1.0)
        self._world.threads.sleep(duration_s)
        answer = self._world.probes[self._device]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self) -> None:
        self._world.closed.append(self._device)


class Running:
    """An epoch whose only worker computed for so long."""

    number = 7

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.computed: dict[int, tuple[float, float]] = {}

    def records(self, *, after: set[int], timeout_s: float) -> Any:
        (rank,) = self.plan.devices
        instructions = self.plan.programs[rank].instructions
        position = next(i for i, item in enumerate(instructions) if isinstance(item, Compute))
        new = {number: span for number, span in self.computed.items() if number not in after}
        after.update(new)
        return {rank: {number: [(position, *span)] for number, span in new.items()}} if new else {}


class World:
    def __init__(self) -> None:
        self.threads = VirtualThreads(start_s=100.0)
        self.balancer = Balancer()
        self.probes: dict[str, float | Exception] = {}
        self.closed: list[str] = []
        world = self

        class Watching:
            members = Members(("device0", "device1", "device2"), WATCH, 0.0)

            @staticmethod
            def client(device: str) -> Control:
                return Control(world, device)

        self.members = Watching.members
        self.measurements = Measurements(
            cast(Rebalancer, self.balancer),
            cast(Watchers, Watching),
            cost=None,
            watch=WATCH,
            threads=self.threads,
        )


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture(scope="module")
def plan() -> Plan:
    return make_plan(mlp(), slow([1.0, 0.5, 0.25]), strategy="single")


def test_devices_are_probed_at_the_same_time(world: World) -> None:
    world.probes = {"device1": 0.01, "device2": 0.02}
    world.measurements.probe(["device1", "device2"])
    assert world.threads.now() == pytest.approx(100.3)
    ((first, second),) = world.balancer.observed
    assert {(item.kind, item.device, item.seconds) for item in (first, second)} == {
        ("probe", "device1", 0.01),
        ("probe", "device2", 0.02),
    }
    assert first.stop_s == pytest.approx(100.3)
    assert sorted(world.closed) == ["device1", "device2"]


def test_a_device_that_is_lost_or_gives_no_answer_says_nothing(world: World) -> None:
    world.probes = {"device1": WorkerUnreachableError("gone"), "device2": 0.02}
    world.members.lost("device0", "gone")
    world.measurements.probe(["device0", "device1", "device2"])
    assert [item.device for item in world.balancer.observed[0]] == ["device2"]
    assert sorted(world.closed) == ["device1", "device2"]


def test_idle_devices_are_probed_as_often_as_the_watch_says(world: World) -> None:
    world.probes = {"device1": 0.01, "device2": 0.02}
    times = []
    for _ in range(100):
        before = len(world.balancer.observed)
        world.measurements.probe_idle()
        if len(world.balancer.observed) > before:
            times.append(world.threads.now())
        world.threads.sleep(0.1)
    assert len(times) in (3, 4)
    assert all(3.0 < b - a < 3.5 for a, b in itertools.pairwise(times))


def test_records_become_observations_once_and_count_as_load(world: World, plan: Plan) -> None:
    running = Running(plan)
    running.computed = {2: (98.0, 99.0), 1: (96.0, 97.0)}
    epochs = [cast(Epoch, running)]
    world.measurements.observe(epochs)
    world.measurements.observe(epochs)
    ((first, second),) = world.balancer.observed
    assert (first.stop_s, second.stop_s) == (97.0, 99.0)  # in order of time
    assert (first.kind, first.seconds) == ("compute", 1.0)
    device = first.device
    assert world.measurements.load(device, 100.0) == pytest.approx(2.0 / 5.0)
    assert world.measurements.load(device, 103.0) == pytest.approx(1.0 / 5.0)
    assert world.measurements.load(device, 200.0) == 0.0
    assert world.measurements.load("another", 100.0) == 0.0


def test_a_device_cannot_be_more_than_busy(world: World, plan: Plan) -> None:
    running = Running(plan)
    running.computed = dict.fromkeys(range(1, 5), (90.0, 99.0))
    world.measurements.observe([cast(Epoch, running)])
    assert world.measurements.load(world.balancer.observed[0][0].device, 100.0) == 1.0


def test_an_epoch_that_is_over_is_forgotten(world: World, plan: Plan) -> None:
    running = Running(plan)
    running.computed = {1: (98.0, 99.0)}
    world.measurements.observe([cast(Epoch, running)])
    world.measurements.observe([])
    world.measurements.observe([cast(Epoch, running)])
    assert len(world.balancer.observed) == 2
