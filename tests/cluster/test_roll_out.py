"""Plans that follow each other in one session: nothing is lost, nothing is left behind."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import wait
from typing import Any

import pytest

import edgeflow as ef
from edgeflow.cluster.cluster import Cluster
from edgeflow.errors import (
    ConfigError,
    DeadlineExceededError,
    OverloadedError,
    WorkerFailedError,
    WorkerOverloadedError,
)
from edgeflow.plan import Plan

torch = pytest.importorskip("torch")

from edgeflow.testing import models  # noqa: E402
from tests.clusters import slow  # noqa: E402
from tests.waiting import eventually  # noqa: E402

TIMEOUT_S = 20.0


@pytest.fixture(scope="module")
def module() -> Any:
    return models.tiny_resnet()


@pytest.fixture(scope="module")
def graph(module: Any) -> ef.ModelGraph:
    return ef.capture(module, (torch.zeros(1, 3, 32, 32),))


def plan_for(graph: ef.ModelGraph, strategy: str, speeds: tuple[float, ...] = (1.0, 0.6, 0.4)) -> Plan:
    return ef.plan(graph, slow(list(speeds)), strategy=strategy)


def images(count: int) -> list[Any]:
    generator = torch.Generator().manual_seed(count)
    return [torch.randn(1, 3, 32, 32, generator=generator) for _ in range(count)]


def assert_close(answer: Any, expected: Any) -> None:
    assert (answer - expected).abs().max() <= 1e-4 * expected.abs().max()


@pytest.fixture
def deployed(graph: ef.ModelGraph, workers: Any) -> Iterator[ef.Session]:
    with ef.deploy(
        plan_for(graph, "coedge"), workers=workers.start(3), timeout_s=TIMEOUT_S, replan=None
    ) as session:
        yield session


def test_requests_go_on_while_plans_follow_each_other(
    module: Any, graph: ef.ModelGraph, deployed: ef.Session, workers: Any
) -> None:
    inputs = images(8)
    expected = [module(image) for image in inputs]
    stop = threading.Event()
    answers: list[tuple[int, Any]] = []

    def ask() -> None:
        number = 0
        while not stop.is_set():
            answers.append((number % 8, deployed.run(inputs[number % 8])))
            number += 1

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for strategy in ("single", "deeperthings", "coedge", "pipeline"):
        before = len(answers)
        plan = plan_for(graph, strategy)
        deployed.roll_out(plan, reason=f"try {strategy}")
        assert deployed.plan is plan
        while len(answers) < before + 4:  # by the new plan, and by what was under way
            stop.wait(0.01)
    stop.set()
    for thread in threads:
        thread.join(TIMEOUT_S)
    for number, answer in answers:
        assert_close(answer, expected[number])
    # The last plan is all that is left, on the devices that it uses.
    for server in workers.servers:
        while len(server.worker.status()) > 1:
            threading.Event().wait(0.01)


def test_what_has_begun_ends_by_the_old_plan(
    module: Any, graph: ef.ModelGraph, deployed: ef.Session, workers: Any
) -> None:
    """Requests that a worker holds up are answered by the plan that began them; the rest goes on."""
    gate = threading.Event()
    workers.hooks[2].before_compute = lambda: gate.wait(TIMEOUT_S)
    inputs = images(12)
    futures = [deployed.submit(image) for image in inputs]
    deployed.roll_out(plan_for(graph, "single"), reason="test")
    # The fastest device alone answers those that had not begun, while the others are held up.
    assert_close(futures[-1].result(TIMEOUT_S), module(inputs[-1]))
    assert not futures[0].done()
    gate.set()
    for image, future in zip(inputs, futures, strict=True):
        assert_close(future.result(TIMEOUT_S), module(image))


def test_only_missing_weights_travel(
    graph: ef.ModelGraph, deployed: ef.Session, caplog: pytest.LogCaptureFixture
) -> None:
    def sent(plan: Plan) -> int:
        caplog.clear()
        with caplog.at_level("INFO"):
            deployed.roll_out(plan, reason="test")
        return sum(r.num_bytes for r in caplog.records if r.message == "weights.sent")  # type: ignore[attr-defined]

    rows = plan_for(graph, "coedge", (0.4, 0.6, 1.0))
    # Rows need whole weights: every device has those of the convolutions already.
    whole = sum(array.nbytes for array in graph.weights.values())
    assert sent(rows) < 0.2 * whole
    assert sent(plan_for(graph, "coedge")) == 0


def test_a_plan_for_fewer_devices_in_another_order(
    module: Any, graph: ef.ModelGraph, deployed: ef.Session
) -> None:
    """Devices are known by their names, so the ranks of the new plan may be others."""
    cluster = deployed.plan.cluster
    fewer = Cluster(
        name="fewer",
        devices=(cluster.devices[2], cluster.devices[0]),
        network=cluster.network,
        source=cluster.devices[0].name,
    )
    deployed.roll_out(ef.plan(graph, fewer, strategy="coedge"), reason="test")
    for image in images(2):
        assert_close(deployed.run(image), module(image))


def test_a_plan_that_a_worker_refuses_changes_nothing(
    module: Any, graph: ef.ModelGraph, deployed: ef.Session, workers: Any
) -> None:
    before = deployed.plan

    def fail(program: Any) -> None:
        raise ZeroDivisionError

    workers.hooks[0].before_prepare = fail
    with pytest.raises(WorkerFailedError):
        deployed.roll_out(plan_for(graph, "single"), reason="test")
    assert deployed.plan is before
    assert workers.held_epochs == 3
    assert_close(deployed.run(images(1)[0]), module(images(1)[0]))


def test_a_plan_that_does_not_fit_beside_the_old_one(graph: ef.ModelGraph, workers: Any) -> None:
    plan = plan_for(graph, "single")
    needed = max(program.peak_bytes for program in plan.programs.values()) + sum(
        item.num_bytes for item in plan.programs[0].weights
    )
    addresses = workers.start(3, memory_limit_bytes=int(1.5 * needed))
    with ef.deploy(plan, workers=addresses, timeout_s=TIMEOUT_S) as session:
        with pytest.raises(WorkerOverloadedError):
            session.roll_out(plan_for(graph, "single"), reason="test")
        session.run(images(1)[0])


def test_a_plan_for_another_graph_or_an_unknown_device(graph: ef.ModelGraph, deployed: ef.Session) -> None:
    other = ef.capture(models.mlp(), (torch.zeros(1, 64),))
    with pytest.raises(ConfigError, match="another graph"):
        deployed.roll_out(ef.plan(other, slow([1.0])), reason="test")
    four = ef.plan(graph, slow([1.0, 0.9, 0.8, 0.7]), strategy="coedge")
    with pytest.raises(ConfigError, match="'device3'"):
        deployed.roll_out(four, reason="test")


# The queue, deadlines, cancellation.


def test_too_many_requests_are_refused(graph: ef.ModelGraph, workers: Any) -> None:
    addresses = workers.start(3)
    plan = plan_for(graph, "coedge")
    with ef.deploy(plan, workers=addresses, timeout_s=TIMEOUT_S, max_waiting=3) as session:
        gate = threading.Event()
        workers.hooks[0].before_compute = lambda: gate.wait(TIMEOUT_S)
        image = images(1)[0]
        futures = [session.submit(image) for _ in range(8 + 3)]
        with pytest.raises(OverloadedError, match="3 requests wait already, at most 3 may; 8 are under way"):
            session.submit(image)
        gate.set()
        assert not wait(futures, TIMEOUT_S).not_done
        session.run(image)


@pytest.mark.parametrize("position", [0, 9], ids=["under way", "waiting"])
def test_a_deadline_of_its_own(deployed: ef.Session, workers: Any, position: int) -> None:
    gate = threading.Event()
    workers.hooks[1].before_compute = lambda: gate.wait(TIMEOUT_S)
    image = images(1)[0]
    others = [deployed.submit(image) for _ in range(position)]
    with pytest.raises(DeadlineExceededError):
        deployed.run(image, timeout_s=0.2)
    gate.set()
    assert not wait(others, TIMEOUT_S).not_done
    deployed.run(image)


@pytest.mark.parametrize("position", [0, 9], ids=["under way", "waiting"])
def test_a_request_can_be_cancelled(deployed: ef.Session, workers: Any, position: int) -> None:
    gate = threading.Event()
    workers.hooks[1].before_compute = lambda: gate.wait(TIMEOUT_S)
    image = images(1)[0]
    futures = [deployed.submit(image) for _ in range(10)]
    assert futures[position].cancel()
    assert not wait([futures[position]], 1.0).not_done
    gate.set()
    for index, future in enumerate(futures):
        if index != position:
            future.result(TIMEOUT_S)
    assert futures[position].cancelled()
    assert eventually(
        lambda: all(status.num_active_requests == 0 for s in workers.servers for status in s.worker.status())
    )
