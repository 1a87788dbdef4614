"""The keeper at work on whole sessions over the memory transport, in virtual time."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

import edgeflow as ef
from edgeflow.cluster.cluster import Cluster
from edgeflow.coordinator.members import Watch
from edgeflow.cost import CostModel
from edgeflow.deploying import planner_like
from edgeflow.errors import ClusterError
from edgeflow.plan import Plan
from tests.images import assert_close, images
from tests.unit.coordinator.sessions import World, rows


def asking(world: World, image: Any, *, every_s: float, for_s: float) -> Iterator[Future[Any]]:
    """Submit a request every so often."""
    until_s = world.threads.now() + for_s
    while world.threads.now() < until_s:
        yield world.session.submit(image)
        world.threads.sleep(every_s)


def test_a_killed_worker_costs_no_request_and_is_used_again(
    module: Any, graph: ef.ModelGraph, tmp_path: Path
) -> None:
    plan = rows(graph)
    (image,) = images(1)
    with World(plan, tmp_path, planner=planner_like(plan), seconds={"device1": 0.02}) as world:
        futures = list(asking(world, image, every_s=0.1, for_s=1.0))
        world.cluster.kill("device1")
        futures += asking(world, image, every_s=0.1, for_s=1.0)
        assert world.used() == {"device0", "device2"}
        world.cluster.start("device1")
        took_s = world.wait_until(lambda: "device1" in world.used(), within_s=30.0)
        assert took_s < 10.0
        futures += asking(world, image, every_s=0.1, for_s=1.0)
        for future in futures:
            assert_close(world.threads.result(future), module(image))


def test_a_worker_that_hangs_is_left_out_after_its_time(
    module: Any, graph: ef.ModelGraph, tmp_path: Path
) -> None:
    plan = rows(graph)
    (image,) = images(1)
    watch = Watch(interval_s=0.5, ping_timeout_s=1.0, lost_after_s=2.5)
    with World(plan, tmp_path, planner=planner_like(plan), watch=watch) as world:
        world.threads.sleep(2.0)
        world.cluster.hang("device2")
        took_s = world.wait_until(lambda: "device2" not in world.used(), within_s=10.0)
        assert 2.0 <= took_s <= 4.5
        assert_close(world.session.run(image), module(image))
        world.cluster.resume("device2")
        world.wait_until(lambda: "device2" in world.used(), within_s=30.0)


def test_without_any_worker_requests_fail_until_one_comes_back(
    module: Any, graph: ef.ModelGraph, tmp_path: Path
) -> None:
    plan = rows(graph)
    (image,) = images(1)
    with World(plan, tmp_path, planner=planner_like(plan)) as world:
        for name in ("device0", "device1", "device2"):
            world.cluster.kill(name)
        world.wait_until(lambda: not world.session.is_ready, within_s=5.0)
        with pytest.raises(ClusterError, match="no plan can be brought onto the workers that are left"):
            world.session.run(image)
        for name in ("device0", "device1", "device2"):
            world.cluster.start(name)
        world.wait_until(lambda: world.session.is_ready, within_s=30.0)
        assert_close(world.session.run(image), module(image))


def test_a_worker_that_its_launcher_can_replace_is_replaced(graph: ef.ModelGraph, tmp_path: Path) -> None:
    plan = rows(graph)
    with World(plan, tmp_path, planner=planner_like(plan), can_replace=True) as world:
        before = world.cluster.worker("device1")
        world.cluster.kill("device1")
        world.wait_until(lambda: "device1" not in world.used(), within_s=5.0)
        world.wait_until(lambda: "device1" in world.used(), within_s=30.0)
        assert world.cluster.worker("device1") is not before


class Slow:
    """A planner that takes long for all devices, and is quick for fewer of them."""

    def __init__(self, plan: Plan, world: list[World], seconds: float) -> None:
        self._inner = planner_like(plan)
        self._world = world
        self._seconds = seconds
        self.began: list[int] = []

    def __call__(self, graph: ef.ModelGraph, cluster: Cluster, cost: CostModel) -> Plan:
        self.began.append(len(cluster.devices))
        if len(cluster.devices) == 3:
            self._world[0].threads.sleep(self._seconds)
        return self._inner(graph, cluster, cost)


def test_a_slow_planner_delays_no_fail_over(module: Any, graph: ef.ModelGraph, tmp_path: Path) -> None:
    """A device is lost while a better plan is being made for all: recovery does not wait for that."""
    plan = rows(graph)
    (image,) = images(1)
    worlds: list[World] = []
    planner = Slow(plan, worlds, seconds=100.0)
    with World(plan, tmp_path, planner=planner, is_balancing=True, seconds={"device0": 0.01}) as world:
        worlds.append(world)
        world.session.run(image)
        world.threads.sleep(10.0)  # the cool-down; then the balancer asks
        world.seconds["device0"] = 0.1
        futures = list(asking(world, image, every_s=0.5, for_s=20.0))
        assert planner.began == [3]
        world.cluster.kill("device1")
        took_s = world.wait_until(lambda: "device1" not in world.used(), within_s=90.0)
        assert took_s < 3.0
        assert planner.began == [3, 2]
        futures += asking(world, image, every_s=0.5, for_s=2.0)
        for future in futures:
            assert_close(world.threads.result(future), module(image))


def test_a_slow_planner_is_asked_again_when_another_worker_is_lost_meanwhile(
    module: Any, graph: ef.ModelGraph, tmp_path: Path
) -> None:
    """Its answer would use a worker that is gone."""
    plan = rows(graph, (1.0, 0.8, 0.6, 0.4))
    (image,) = images(1)
    worlds: list[World] = []
    planner = Slow(plan, worlds, seconds=20.0)  # 3 devices are left after the first loss
    with World(plan, tmp_path, planner=planner) as world:
        worlds.append(world)
        world.cluster.kill("device1")
        world.threads.sleep(2.0)
        assert planner.began == [3]
        world.cluster.kill("device3")
        took_s = world.wait_until(world.session_is_ready, within_s=60.0)
        assert took_s < 5.0
        assert world.used() <= {"device0", "device2"}
        assert_close(world.session.run(image), module(image))


def test_a_worker_that_slows_down_is_relieved(module: Any, graph: ef.ModelGraph, tmp_path: Path) -> None:
    plan = rows(graph)
    (image,) = images(1)
    seconds = {"device0": 0.01, "device1": 0.01, "device2": 0.01}
    with World(plan, tmp_path, is_balancing=True, seconds=seconds) as world:
        list(asking(world, image, every_s=0.5, for_s=10.0))
        before = world.session.plan
        world.seconds["device2"] = 0.5
        futures = list(asking(world, image, every_s=0.5, for_s=60.0))
        assert world.session.plan is not before
        assert any(decision.verdict == "switch" for decision in world.session.decisions)
        for future in futures:
            assert_close(world.threads.result(future), module(image))


def test_a_planner_that_raises_anything_leaves_the_session_alive(
    module: Any, graph: ef.ModelGraph, tmp_path: Path
) -> None:
    plan = rows(graph)
    (image,) = images(1)
    calls: list[int] = []

    def planner(graph: ef.ModelGraph, cluster: Cluster, cost: CostModel) -> Plan:
        calls.append(len(cluster.devices))
        if len(calls) == 1:
            raise KeyError("a defect")
        return planner_like(plan)(graph, cluster, cost)

    with World(plan, tmp_path, planner=planner) as world:
        world.cluster.kill("device1")
        world.wait_until(lambda: world.used() == {"device0", "device2"}, within_s=10.0)
        assert calls[:2] == [2, 2]
        assert_close(world.session.run(image), module(image))


def test_the_status_file_is_written(graph: ef.ModelGraph, tmp_path: Path) -> None:
    plan = rows(graph)
    path = tmp_path / "status.json"
    with World(plan, tmp_path / "weights", planner=planner_like(plan), status_file=path) as world:
        world.threads.sleep(2.0)
        assert path.exists()
        assert {device.name for device in world.session.status().devices} == {"device0", "device1", "device2"}
