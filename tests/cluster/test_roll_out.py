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
from tests.images import assert_close, images  # noqa: E402
from tests.waiting import eventually  # noqa: E402

TIMEOUT_S = 20.0


def plan_for(graph: ef.ModelGraph, strategy: str, speeds: tuple[float, ...] = (1.0, 0.6, 0.4)) -> Plan:
    return ef.plan(graph, slow(list(speeds)), strategy=strategy)


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


def test_a_plan_for_an_unknown_device(graph: ef.ModelGraph, deployed: ef.Session) -> None:
    four = ef.plan(graph, slow([1.0, 0.9, 0.8, 0.7]), strategy="coedge")
    with pytest.raises(ConfigError, match="'device3'"):
        deployed.roll_out(four, reason="test")


# Plans of another graph.


class Grown(torch.nn.Module):
    """A model whose answer has more classes and another structure, with the same weights beside."""

    def __init__(self, module: Any) -> None:
        super().__init__()
        self.module = module
        generator = torch.Generator().manual_seed(1)
        self.register_buffer("found", torch.randn(10, 3, generator=generator))

    def forward(self, input: Any) -> Any:
        logits = self.module(input)
        return {"old": logits, "new": logits @ self.found}


@pytest.fixture(scope="module")
def grown(module: Any) -> Any:
    return Grown(module).eval()


@pytest.fixture(scope="module")
def grown_graph(grown: Any) -> ef.ModelGraph:
    return ef.capture(grown, (torch.zeros(1, 3, 32, 32),))


def is_of_grown(answer: Any, image: Any, module: Any, grown: Any) -> bool:
    """Compare an answer with that of the graph whose structure it has; say whether that is the grown one."""
    if isinstance(answer, torch.Tensor):
        assert_close(answer, module(image))
        return False
    expected = grown(image)
    assert answer.keys() == expected.keys()
    for name in expected:
        assert_close(answer[name], expected[name])
    return True


def test_a_stream_goes_on_while_another_graph_takes_over(
    module: Any, grown: Any, graph: ef.ModelGraph, grown_graph: ef.ModelGraph, deployed: ef.Session
) -> None:
    """No request is lost, the order is kept, and from one point on answers are the new graph's."""
    inputs = images(40)
    rolling: list[threading.Thread] = []

    def pictures() -> Iterator[Any]:
        for number, image in enumerate(inputs):
            if number == 10:  # four are under way
                rolling.append(
                    threading.Thread(
                        target=deployed.roll_out,
                        args=(plan_for(grown_graph, "deeperthings"),),
                        kwargs={"reason": "grown"},
                    )
                )
                rolling[0].start()
            if number == 28:
                rolling[0].join(TIMEOUT_S)
            if number == 30:
                deployed.roll_out(plan_for(graph, "single"), reason="back")
            yield image

    with torch.inference_mode():
        found = [
            is_of_grown(answer, image, module, grown)
            for image, answer in zip(inputs, deployed.stream(pictures()), strict=True)
        ]
    # At most four are under way at a time, and each is of the plan that took requests when it came.
    first, last = found.index(True), len(found) - found[::-1].index(True)
    assert 10 <= first < last == 30
    assert all(found[first:last])
    assert deployed.plan.graph is graph
    assert is_of_grown(deployed.run(inputs[0]), inputs[0], module, grown) is False


def test_what_an_old_graph_has_begun_it_answers(
    module: Any, grown: Any, grown_graph: ef.ModelGraph, deployed: ef.Session, workers: Any
) -> None:
    """Also after the other graph's first answers; its weights, and no others, have been sent."""
    gate = threading.Event()
    workers.hooks[2].before_compute = lambda: gate.wait(TIMEOUT_S)
    inputs = images(12)
    futures = [deployed.submit(image) for image in inputs]
    deployed.roll_out(plan_for(grown_graph, "single"), reason="grown")
    assert is_of_grown(futures[-1].result(TIMEOUT_S), inputs[-1], module, grown)
    assert not futures[0].done()
    gate.set()
    found = [
        is_of_grown(future.result(TIMEOUT_S), image, module, grown)
        for image, future in zip(inputs, futures, strict=True)
    ]
    assert found == [False] * 8 + [True] * 4


def test_only_the_weights_of_another_graph_that_are_new_travel(
    graph: ef.ModelGraph, grown_graph: ef.ModelGraph, deployed: ef.Session, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        deployed.roll_out(plan_for(grown_graph, "coedge"), reason="grown")
    sent = [r.num_bytes for r in caplog.records if r.message == "weights.sent"]  # type: ignore[attr-defined]
    assert 0 < sum(sent) <= 3 * grown_graph.weight_bytes - 3 * graph.weight_bytes


def test_a_graph_with_other_inputs_is_refused(module: Any, deployed: ef.Session) -> None:
    before = deployed.plan
    name = before.graph.inputs[0]

    class Renamed(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = module

        def forward(self, picture: Any, flag: bool = False) -> Any:
            return self.module(picture)

    cases = [
        (
            models.tiny_resnet(),
            torch.zeros(2, 3, 32, 32),
            rf"'{name}' is float32 \(2, 3, 32, 32\), was float32 \(1, 3, 32, 32\)",
        ),
        (
            models.tiny_resnet().double(),
            torch.zeros(1, 3, 32, 32).double(),
            rf"'{name}' is float64 .*, was float32",
        ),
        (
            Renamed().eval(),
            torch.zeros(1, 3, 32, 32),
            rf"'{name}' is missing, was float32 .*; 'picture' is float32 .*, was missing",
        ),
    ]
    for other, image, message in cases:
        made = ef.capture(other, (image,))
        with pytest.raises(ConfigError, match=message):
            deployed.roll_out(ef.plan(made, slow([1.0])), reason="test")
    assert deployed.plan is before


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
