"""Sessions on real workers in this process: the module's answers, and what happens when something fails."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, wait
from typing import Any

import numpy as np
import pytest

import edgeflow as ef
from edgeflow.errors import (
    ClusterError,
    ConfigError,
    DeadlineExceededError,
    UnsupportedOperatorError,
    WorkerFailedError,
    WorkerOverloadedError,
    WorkerUnreachableError,
)
from edgeflow.plan import Plan
from edgeflow.plan.program import CLIENT

torch = pytest.importorskip("torch")

from edgeflow.testing import models  # noqa: E402
from tests.clusters import slow  # noqa: E402
from tests.images import assert_close, images  # noqa: E402
from tests.waiting import eventually, in_threads  # noqa: E402

TIMEOUT_S = 20.0


def rows(graph: ef.ModelGraph, num_devices: int = 3) -> Plan:
    """A plan in which every device takes part and neighbours exchange halos."""
    cluster = slow([1.0, 0.6, 0.4][:num_devices])
    plan = ef.plan(graph, cluster, strategy="coedge")
    assert len(plan.programs) == num_devices + 1
    return plan


@pytest.fixture
def deployed(graph: ef.ModelGraph, workers: Any) -> Iterator[ef.Session]:
    """Three workers with a plan of rows."""
    with ef.deploy(rows(graph), workers=workers.start(3), timeout_s=TIMEOUT_S, replan=None) as session:
        yield session


# Answers.


@pytest.mark.parametrize("strategy", ["single", "coedge", "auto"])
@pytest.mark.parametrize("num_devices", [1, 2, 3])
def test_workers_answer_what_the_module_answers(
    module: Any, graph: ef.ModelGraph, workers: Any, strategy: str, num_devices: int
) -> None:
    plan = ef.plan(graph, slow([1.0, 0.5, 0.25][:num_devices]), strategy=strategy)
    with ef.deploy(plan, workers=workers.start(num_devices), timeout_s=TIMEOUT_S) as session:
        for image in images(2):
            assert_close(session.run(image), module(image))


@pytest.mark.parametrize("strategy", ["megatron", "auto"])
def test_transformer_blocks_by_heads_and_columns(workers: Any, strategy: str) -> None:
    module = models.tiny_bert_like()
    tokens, mask = torch.arange(16).reshape(1, 16), torch.ones(1, 16, dtype=torch.int64)
    graph = ef.capture(module, (), kwargs={"input_ids": tokens, "attention_mask": mask})
    plan = ef.plan(graph, slow([1.0, 0.5, 0.25]), strategy=strategy)
    with ef.deploy(plan, workers=workers.start(3), timeout_s=TIMEOUT_S) as session:
        answer = session.run(input_ids=tokens, attention_mask=mask)
        assert_close(answer, module(tokens, mask))
        (again,) = session.stream([{"input_ids": tokens, "attention_mask": mask}])
        assert torch.equal(again, answer)


@pytest.mark.parametrize("name", ["concat_dag", "unet", "tiny_vit"])
@pytest.mark.parametrize("strategy", ["coedge", "megatron", "auto"])
def test_other_shapes_of_graph(workers: Any, name: str, strategy: str) -> None:
    """Every program that the planner makes passes the worker's check, and gives the right answer."""
    module = getattr(models, name)()
    (example,) = images(1)
    plan = ef.plan(ef.capture(module, (example,)), slow([1.0, 0.5, 0.25]), strategy=strategy)
    with ef.deploy(plan, workers=workers.start(3), timeout_s=TIMEOUT_S) as session:
        assert_close(session.run(example), module(example))


def test_several_requests_at_once_are_each_answered_with_their_own(module: Any, deployed: ef.Session) -> None:
    inputs = images(12)
    futures = [deployed.submit(image) for image in inputs]
    for image, future in zip(inputs, futures, strict=True):
        assert_close(future.result(TIMEOUT_S), module(image))


def test_several_threads_may_ask(module: Any, deployed: ef.Session) -> None:
    inputs = images(8)
    for image, answer in zip(inputs, in_threads(deployed.run, inputs), strict=True):
        assert_close(answer, module(image))


@pytest.mark.parametrize("max_in_flight", [1, 3, 20])
def test_a_stream_comes_in_order(module: Any, deployed: ef.Session, max_in_flight: int) -> None:
    inputs = images(7)
    for image, answer in zip(inputs, deployed.stream(inputs, max_in_flight=max_in_flight), strict=True):
        assert_close(answer, module(image))


def test_a_stream_takes_no_more_than_it_may_ahead(deployed: ef.Session) -> None:
    taken = 0

    def source() -> Iterator[Any]:
        nonlocal taken
        for image in images(10):
            taken += 1
            yield image

    stream = deployed.stream(source(), max_in_flight=3)
    next(stream)
    assert taken == 3
    stream.close()  # what is under way is abandoned


def test_arguments_may_change_after_submit(module: Any, deployed: ef.Session) -> None:
    (image,) = images(1)
    expected = module(image)
    future = deployed.submit(image)
    image.zero_()
    assert_close(future.result(TIMEOUT_S), expected)


def test_arguments_that_do_not_fit(deployed: ef.Session) -> None:
    with pytest.raises(ConfigError):
        deployed.run(torch.zeros(1, 3, 16, 16))
    with pytest.raises(ConfigError):
        deployed.submit()


def test_numpy_inputs_are_fine(module: Any, deployed: ef.Session) -> None:
    (image,) = images(1)
    assert_close(torch.as_tensor(np.asarray(deployed.run(image.numpy()))), module(image))


def test_the_trace_covers_every_rank_on_one_clock(deployed: ef.Session) -> None:
    image = images(1)[0]
    for _ in range(3):
        deployed.run(image)
    events = deployed.trace()
    assert {event.request for event in events} == {1, 2, 3}
    assert {event.rank for event in events} == set(deployed.plan.programs)
    for request in (1, 2, 3):
        mine = [event for event in events if event.request == request]
        start_s = min(event.start_s for event in mine if event.rank == CLIENT)
        stop_s = max(event.stop_s for event in mine if event.rank == CLIENT)
        # All workers are in this process, so the clocks agree up to what a round trip can tell.
        assert all(start_s - 0.05 <= event.start_s <= event.stop_s <= stop_s + 0.05 for event in mine)
    assert {event.kind for event in events} == {"compute", "send", "receive", "assemble"}


def test_weights_travel_once(graph: ef.ModelGraph, workers: Any, caplog: pytest.LogCaptureFixture) -> None:
    addresses = workers.start(3)
    sent = []
    for _ in range(2):
        caplog.clear()
        with caplog.at_level("INFO"), ef.deploy(rows(graph), workers=addresses, timeout_s=TIMEOUT_S):
            pass
        records = [record for record in caplog.records if record.message == "weights.sent"]
        sent.append(sum(record.num_bytes for record in records))  # type: ignore[attr-defined]
    assert sent[0] > 0 and sent[1] == 0


def test_two_sessions_share_the_workers(module: Any, graph: ef.ModelGraph, workers: Any) -> None:
    addresses = workers.start(3)
    image = images(1)[0]
    first = ef.deploy(rows(graph), workers=addresses, timeout_s=TIMEOUT_S)
    second = ef.deploy(rows(graph), workers=addresses, timeout_s=TIMEOUT_S)
    futures = [session.submit(image) for session in (first, second) for _ in range(3)]
    for future in futures:
        assert_close(future.result(TIMEOUT_S), module(image))
    first.close()
    assert_close(second.run(image), module(image))
    second.close()


# Deployments that fail, and leave nothing behind.


def test_a_worker_that_is_not_there(graph: ef.ModelGraph, workers: Any) -> None:
    addresses = workers.start(2)
    with socket.socket() as placeholder:
        placeholder.bind(("127.0.0.1", 0))
        port = placeholder.getsockname()[1]
    missing = f"127.0.0.1:{port}"
    started_s = time.monotonic()
    with pytest.raises(WorkerUnreachableError, match=rf"{missing} \(rank 1\).* 0\.5 s"):
        ef.deploy(rows(graph), workers=[addresses[0], missing, addresses[1]], timeout_s=0.5)
    assert time.monotonic() - started_s < 5.0


def test_a_worker_with_too_little_memory(graph: ef.ModelGraph, workers: Any) -> None:
    addresses = [*workers.start(2), *workers.start(1, memory_limit_bytes=10_000)]
    with pytest.raises(WorkerOverloadedError, match=rf"{addresses[2]} \(rank 2\).*10,000"):
        ef.deploy(rows(graph), workers=addresses, timeout_s=TIMEOUT_S)
    assert workers.held_epochs == 0


def test_an_executor_that_cannot_run_the_program(graph: ef.ModelGraph, workers: Any) -> None:
    addresses = workers.start(3)

    def refuse(program: Any) -> None:
        raise UnsupportedOperatorError("no such operator here", operator="aten.conv2d.default")

    workers.hooks[1].before_prepare = refuse
    with pytest.raises(UnsupportedOperatorError, match=r"rank 1\): no such operator here"):
        ef.deploy(rows(graph), workers=addresses, timeout_s=TIMEOUT_S)
    assert workers.held_epochs == 0


def test_an_executor_that_breaks_says_nothing_of_its_inside(graph: ef.ModelGraph, workers: Any) -> None:
    addresses = workers.start(2)

    def fail(program: Any) -> None:
        raise ZeroDivisionError("secret")

    workers.hooks[0].before_prepare = fail
    with pytest.raises(WorkerFailedError, match="internal error") as caught:
        ef.deploy(rows(graph, 2), workers=addresses, timeout_s=TIMEOUT_S)
    assert "secret" not in str(caught.value)
    assert workers.held_epochs == 0


def test_a_worker_that_takes_too_long_to_prepare(graph: ef.ModelGraph, workers: Any) -> None:
    addresses = workers.start(2)
    release = threading.Event()
    workers.hooks[1].before_prepare = lambda program: release.wait(TIMEOUT_S)
    with pytest.raises(DeadlineExceededError, match=r"rank 1\) did not answer after"):
        ef.deploy(rows(graph, 2), workers=addresses, timeout_s=0.5)
    release.set()
    workers.wait_until_free()


@pytest.mark.parametrize(
    ("addresses", "says"),
    [
        (["a:1", "b:1"], "2 worker addresses for a cluster of 3 devices"),
        (["a:1", "b:1", "c"], "'c' is not HOST:PORT"),
        (["a:1", "b:1", "c:0"], "'c:0' is not HOST:PORT"),
        (["a:1", "b:1", "a:1"], "a:1 is given for rank 0 and for rank 2"),
        ("a:1", "must be a list"),
    ],
)
def test_addresses_that_do_not_fit(graph: ef.ModelGraph, addresses: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        ef.deploy(rows(graph), workers=addresses)


def test_arguments_of_deploy_that_do_not_fit(graph: ef.ModelGraph) -> None:
    plan = rows(graph)
    for options in (
        {},
        {"workers": ["a:1"] * 3, "local": True},
        {"local": True, "timeout_s": 0},
        {"local": True, "threads": 0},
        {"local": True, "executor": "abacus"},
    ):
        with pytest.raises(ConfigError):
            ef.deploy(plan, **options)


# Requests that fail.


def test_a_kernel_that_raises_fails_its_request_only(module: Any, deployed: ef.Session, workers: Any) -> None:
    image = images(1)[0]

    def fail() -> None:
        raise ZeroDivisionError("secret")

    workers.hooks[1].before_compute = fail
    with pytest.raises(WorkerFailedError, match=r"rank 1\).*ZeroDivisionError") as caught:
        deployed.run(image)
    assert "secret" not in str(caught.value)
    workers.hooks[1].before_compute = lambda: None
    assert_close(deployed.run(image), module(image))


def test_a_request_that_takes_too_long(module: Any, graph: ef.ModelGraph, workers: Any) -> None:
    image = images(1)[0]
    with ef.deploy(rows(graph), workers=workers.start(3), timeout_s=2.0) as session:
        release = threading.Event()
        workers.hooks[2].before_compute = lambda: release.wait(TIMEOUT_S)
        started_s = time.monotonic()
        with pytest.raises(DeadlineExceededError, match=r"request 1 had no answer in 2\.0 s; it waits for"):
            session.run(image)
        assert 1.9 <= time.monotonic() - started_s < 4.0
        release.set()
        assert_close(session.run(image), module(image))


def test_a_worker_that_stops_in_mid_request(deployed: ef.Session, workers: Any) -> None:
    entered, release = threading.Event(), threading.Event()

    def block() -> None:
        entered.set()
        release.wait(TIMEOUT_S)

    workers.hooks[1].before_compute = block
    futures = [deployed.submit(image) for image in images(3)]
    assert entered.wait(TIMEOUT_S)
    stopper = threading.Thread(target=workers.servers[1].stop)
    stopper.start()
    for future in futures:
        with pytest.raises(WorkerUnreachableError, match="rank 1"):
            future.result(TIMEOUT_S)
    with pytest.raises(WorkerUnreachableError, match=r"was lost|lost rank 1"):
        deployed.run(images(1)[0])
    release.set()
    stopper.join()


def test_a_planner_that_fails_is_asked_again(module: Any, graph: ef.ModelGraph, workers: Any) -> None:
    """Whatever it raises, requests hear of it at once, and the session answers again when there is a plan."""
    problems = [ValueError("not today")]

    def replan(graph: ef.ModelGraph, cluster: ef.Cluster, cost: Any) -> Plan:
        if problems:
            raise problems[0]
        return ef.plan(graph, cluster, strategy="coedge", cost=cost)

    image = images(1)[0]
    with ef.deploy(rows(graph), workers=workers.start(3), timeout_s=TIMEOUT_S, replan=replan) as session:
        assert_close(session.run(image), module(image))
        workers.servers[1].stop()
        with pytest.raises(ClusterError, match="not today"):
            session.run(image, timeout_s=TIMEOUT_S / 2)
        problems.clear()
        assert eventually(lambda: session.is_ready)
        assert_close(session.run(image), module(image))
        assert "device1" not in {device for epoch in session.open_epochs() for device in epoch.devices}


def test_closing_with_requests_under_way(graph: ef.ModelGraph, workers: Any) -> None:
    session = ef.deploy(rows(graph), workers=workers.start(3), timeout_s=TIMEOUT_S)
    release = threading.Event()
    workers.hooks[1].before_compute = lambda: release.wait(TIMEOUT_S)
    futures = [session.submit(image) for image in images(12)]
    session.close()
    session.close()
    release.set()
    assert not wait(futures, TIMEOUT_S).not_done
    for future in futures:
        with pytest.raises(ClusterError, match="closed"):
            future.result()
    with pytest.raises(ClusterError, match="closed"):
        session.run(images(1)[0])


def test_callbacks_of_futures_may_use_the_session(deployed: ef.Session) -> None:
    image = images(1)[0]
    second: Future[Any] = Future()

    def again(first: Future[Any]) -> None:
        deployed.submit(image).add_done_callback(lambda f: second.set_result(f.result()))

    deployed.submit(image).add_done_callback(again)
    assert second.result(TIMEOUT_S) is not None


def test_a_coordinator_that_vanishes_leaves_nothing_on_the_workers(
    graph: ef.ModelGraph, workers: Any
) -> None:
    session = ef.deploy(rows(graph), workers=workers.start(3), timeout_s=TIMEOUT_S, replan=None)
    assert workers.held_epochs == 3
    for epoch in list(session._epochs.values()):  # it takes them out when they end
        epoch._disconnect()  # as its death would
    workers.wait_until_free()
    session.close()


def test_a_plan_of_several_ways_shares_its_requests_out(module: Any, workers: Any) -> None:
    """Whole copies on three workers: many requests at once are answered by all of them, each rightly."""
    (example,) = images(1)
    cluster = ef.Cluster.local([1.0, 1.0, 1.0])
    plan = ef.plan(ef.capture(module, (example,)), cluster, strategy="replicate", objective="throughput")
    inputs = images(12)
    with ef.deploy(plan, workers=workers.start(3), timeout_s=TIMEOUT_S) as session:
        for image, answer in zip(inputs, session.stream(inputs), strict=True):
            assert_close(answer, module(image))
        futures = [session.submit(image) for image in inputs]
        for image, future in zip(inputs, futures, strict=True):
            assert_close(future.result(), module(image))
        assert_close(session.run(example), module(example))
        ranks = {event.rank for event in session.trace() if event.kind == "compute"}
    assert ranks == {0, 1, 2}
