"""Whole sessions over the memory transport, in virtual time: no socket, no sleep."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import edgeflow as ef
from edgeflow.coordinator.launcher import Elsewhere
from edgeflow.coordinator.ledger import Ledger
from edgeflow.coordinator.requests import ClientState
from edgeflow.errors import ClusterError, DeadlineExceededError, OverloadedError, WorkerUnreachableError
from edgeflow.incident import load_incident
from edgeflow.worker.state import WorkerState
from tests.images import assert_close, images
from tests.unit.coordinator.sessions import World, rows


def test_answers_are_those_of_the_module(module: Any, graph: ef.ModelGraph, tmp_path: Path) -> None:
    with World(rows(graph), tmp_path) as world:
        for image in images(3):
            assert_close(world.session.run(image), module(image))
        assert world.cluster.held_epochs == 3


def test_requests_at_once_are_each_answered_with_their_own(
    module: Any, graph: ef.ModelGraph, tmp_path: Path
) -> None:
    inputs = images(12)
    with World(rows(graph), tmp_path) as world:
        futures = [world.session.submit(image) for image in inputs]
        for image, future in zip(inputs, futures, strict=True):
            assert_close(world.threads.result(future), module(image))


def test_a_stream_comes_in_order(module: Any, graph: ef.ModelGraph, tmp_path: Path) -> None:
    inputs = images(7)
    with World(rows(graph), tmp_path) as world:
        answers = list(world.session.stream(inputs, max_in_flight=3))
    for image, answer in zip(inputs, answers, strict=True):
        assert_close(answer, module(image))


def test_a_late_request_fails_at_its_deadline_and_frees_the_workers(
    module: Any, graph: ef.ModelGraph, tmp_path: Path
) -> None:
    (image,) = images(1)
    with World(rows(graph), tmp_path, seconds={"device1": 1000.0}) as world:
        started_s = world.threads.now()
        with pytest.raises(DeadlineExceededError, match="had no answer in 5"):
            world.session.run(image, timeout_s=5.0)
        assert 5.0 <= world.threads.now() - started_s < 5.2
        world.seconds["device1"] = 0.0
        assert_close(world.session.run(image, timeout_s=2000.0), module(image))


def test_requests_beyond_the_limit_are_refused_with_the_numbers(graph: ef.ModelGraph, tmp_path: Path) -> None:
    (image,) = images(1)
    with World(rows(graph), tmp_path, seconds={"device0": 10.0}, max_waiting=2) as world:
        futures = [world.session.submit(image) for _ in range(8 + 2)]
        with pytest.raises(OverloadedError, match="2 requests wait already, at most 2 may; 8 are under way"):
            world.session.submit(image)
        for future in futures:
            future.cancel()


def test_cancelling_a_request_frees_what_workers_hold_for_it(graph: ef.ModelGraph, tmp_path: Path) -> None:
    (image,) = images(1)
    with World(rows(graph), tmp_path, seconds={"device0": 10.0}) as world:
        future = world.session.submit(image)
        world.threads.sleep(1.0)
        assert sum(status.num_active_requests for status in world.cluster.worker("device0").status()) == 1
        assert future.cancel()
        world.threads.sleep(20.0)
        assert sum(status.num_active_requests for status in world.cluster.worker("device0").status()) == 0


def test_another_plan_takes_over_while_requests_are_under_way(
    module: Any, graph: ef.ModelGraph, tmp_path: Path
) -> None:
    before, after = rows(graph), ef.plan(graph, rows(graph).cluster, strategy="single")
    inputs = images(6)
    with World(before, tmp_path, seconds=dict.fromkeys(("device0", "device1"), 0.5)) as world:
        futures = [world.session.submit(image) for image in inputs]
        world.session.roll_out(after, reason="a test")
        assert world.used() == {"device0"}
        for image, future in zip(inputs, futures, strict=True):
            assert_close(world.threads.result(future), module(image))
        world.threads.sleep(1.0)
        assert world.cluster.held_epochs == 1  # the old plan has drained
        assert world.session.status().num_replayed == 0


def test_a_lost_worker_ends_the_requests_of_a_session_that_does_not_replan(
    graph: ef.ModelGraph, tmp_path: Path
) -> None:
    (image,) = images(1)
    with World(rows(graph), tmp_path, seconds={"device2": 100.0}) as world:
        future = world.session.submit(image)
        world.threads.sleep(1.0)
        world.cluster.kill("device1")
        with pytest.raises(WorkerUnreachableError, match=r"\(rank 1\) was lost"):
            world.threads.result(future)
        assert not world.session.is_ready


def test_closing_fails_what_is_pending(graph: ef.ModelGraph, tmp_path: Path) -> None:
    (image,) = images(1)
    world = World(rows(graph), tmp_path, seconds={"device0": 100.0})
    future = world.session.submit(image)
    world.threads.sleep(1.0)
    world.session.close()
    with pytest.raises(ClusterError, match="closed"):
        world.threads.result(future)
    with pytest.raises(ClusterError, match="closed"):
        world.session.run(image)
    assert world.cluster.held_epochs == 0


def test_a_worker_that_never_comes_up_is_named(graph: ef.ModelGraph, tmp_path: Path) -> None:
    plan = rows(graph)
    with World(plan, tmp_path) as world:
        workers = Elsewhere(dict(world.cluster.addresses))
        world.cluster.kill("device2")
        started_s = world.threads.now()
        with pytest.raises(WorkerUnreachableError, match=r"worker memory:\d+ \(rank 2\) cannot be reached"):
            ef.Session(plan, workers, network=world.cluster.network(), timeout_s=60.0)
        assert 10.0 <= world.threads.now() - started_s < 10.5
        assert world.cluster.held_epochs == 0  # neither of this session nor of the one that lost device2


def test_the_trace_covers_every_rank(graph: ef.ModelGraph, tmp_path: Path) -> None:
    (image,) = images(1)
    with World(rows(graph), tmp_path, seconds={"device0": 0.25}) as world:
        world.session.run(image)
        events = world.session.trace()
    assert {event.rank for event in events} == {-1, 0, 1, 2}
    computed = [event for event in events if event.rank == 0 and event.kind == "compute"]
    assert computed and all(event.stop_s - event.start_s == pytest.approx(0.25) for event in computed)


def test_incidents_of_a_session_replay(graph: ef.ModelGraph, tmp_path: Path) -> None:
    """What its state machines decided is decided again, event by event."""
    with World(rows(graph), tmp_path / "weights", seconds={"device0": 0.1}) as world:
        for future in [world.session.submit(image) for image in images(10)]:
            world.threads.result(future)
        ledger, client = world.session.save_incidents(tmp_path / "incidents")
        world.cluster.worker("device1").save_incident(tmp_path / "worker.json")
    for path, kind in ((ledger, Ledger), (client, ClientState), (tmp_path / "worker.json", WorkerState)):
        incident = load_incident(path, kind)
        assert len(incident.calls) >= 10
        incident.replay()
