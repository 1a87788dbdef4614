"""Epochs of a session on workers in memory: opened on all of them or on none, closed, and given up."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeflow.coordinator.client_rank import ClientRank
from edgeflow.coordinator.epoch import Epoch, Shared
from edgeflow.coordinator.opening import Openings
from edgeflow.coordinator.rollout import ContentTable
from edgeflow.errors import ConfigError, EdgeflowError, WorkerUnreachableError
from edgeflow.graph.ir import Array
from edgeflow.plan import Plan
from edgeflow.planner import plan as make_plan
from edgeflow.testing.memory_cluster import MemoryCluster
from edgeflow.testing.virtual import VirtualThreads
from tests.clusters import slow
from tests.unit.plan.tiny import mlp

DEVICES = ("device0", "device1", "device2")
X = np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4)


class Owner:
    def __init__(self) -> None:
        self.answered: list[tuple[int, int]] = []
        self.trouble: list[tuple[int, str]] = []

    def on_answered(self, epoch: int, request_id: int, outputs: dict[str, Array], seconds: float) -> None:
        self.answered.append((epoch, request_id))

    def on_failed(self, epoch: int, request_id: int, error: Exception) -> None:
        raise AssertionError(error)

    def on_trouble(self, epoch: int, rank: int, error: EdgeflowError) -> None:
        self.trouble.append((rank, str(error)))


class World:
    def __init__(self, plan: Plan, folder: Path) -> None:
        self.plan = plan
        self.threads = VirtualThreads()
        self.cluster = MemoryCluster(DEVICES, folder, threads=self.threads)
        self.owner = Owner()
        lock = self.threads.lock()
        self.client = ClientRank(self.owner, lock=lock, threads=self.threads, tick=lambda: None)
        network = self.cluster.network()
        self.shared = Shared(
            lock=lock,
            client=self.client,
            transport=network.transport,
            choose_routes=network.choose_routes,
            control=network.control,
            threads=self.threads,
        )
        self.openings = Openings(self.cluster.addresses, self.shared, timeout_s=5.0)

    def open(self, plan: Plan | None = None) -> Epoch:
        way = plan or self.plan
        return self.openings.open(way, ContentTable(way.graph), connect_timeout_s=2.0)

    def answer(self, epoch: Epoch, request_id: int) -> None:
        name = self.plan.graph.inputs[0]
        with self.shared.lock:
            self.client.begin(epoch.number, request_id, {name: X}, 100.0)
        self.threads.sleep(0.1)
        assert self.owner.answered[-1] == (epoch.number, request_id)


@pytest.fixture(scope="module")
def plan() -> Plan:
    made = make_plan(mlp(), slow([1.0, 0.9, 0.8]), strategy="megatron")
    assert len(made.programs) == 4
    return made


@pytest.fixture
def world(plan: Plan, tmp_path: Path) -> Iterator[World]:
    made = World(plan, tmp_path)
    yield made
    made.client.close()
    made.cluster.close()


def test_all_workers_hold_an_epoch_that_is_open_and_none_one_that_is_closed(world: World) -> None:
    epoch = world.open()
    assert world.cluster.held_epochs == 3
    assert epoch.devices == DEVICES
    assert [epoch.rank_of(device) for device in DEVICES] == [0, 1, 2]
    assert set(epoch.descriptions) == {0, 1, 2}
    assert epoch.where(1) == f"worker {world.cluster.addresses['device1']} (rank 1)"
    assert not epoch.is_carrying("device1")
    world.answer(epoch, 5)
    epoch.close(is_idle=True)
    epoch.close(is_idle=True)
    assert world.cluster.held_epochs == 0
    assert world.owner.trouble == []


def test_weights_travel_once(world: World) -> None:
    first = world.open()
    second = world.open()
    assert first.moved_bytes > 0
    assert second.moved_bytes == 0
    assert first.number != second.number
    first.close(is_idle=False)
    world.answer(second, 1)
    second.close(is_idle=False)


@pytest.mark.parametrize("device", DEVICES)
def test_no_worker_holds_an_epoch_that_one_cannot_take(world: World, device: str) -> None:
    world.cluster.hang(device)
    with pytest.raises(WorkerUnreachableError, match="no answer"):
        world.open()
    assert world.openings.blamed == device
    assert world.openings.epochs == ()
    world.cluster.resume(device)
    assert world.cluster.held_epochs == 0
    epoch = world.open()
    assert world.openings.blamed is None
    epoch.close(is_idle=True)


def test_a_device_without_an_address_is_named(world: World) -> None:
    del world.cluster.addresses["device1"]
    with pytest.raises(ConfigError, match=r"uses device 'device1', which .* has those of device0, device2"):
        world.open()
    assert world.cluster.held_epochs == 0


def test_an_opening_that_is_given_up_fails_with_the_reason(world: World) -> None:
    world.cluster.kill("device2")
    told = WorkerUnreachableError("device2 is gone")

    def give_up() -> None:
        world.threads.sleep(0.5)
        with world.shared.lock:
            (opening,) = world.openings.epochs
            assert opening.devices == DEVICES
            world.openings.give_up({"device2", "elsewhere"}, WorkerUnreachableError("not of all of these"))
            world.openings.give_up({"device2"}, told)

    thread = world.threads.start(give_up, name="giving up")
    with pytest.raises(WorkerUnreachableError, match="device2 is gone"):
        world.open()
    assert world.threads.now() < 1.0  # well before the time that a worker has to come up
    thread.join()
    assert world.cluster.held_epochs == 0


def test_records_are_returned_once_for_requests_that_ended_everywhere(world: World) -> None:
    epoch = world.open()
    seen: set[int] = set()
    assert epoch.records(after=seen, timeout_s=1.0) == {}
    world.answer(epoch, 70)
    world.answer(epoch, 20)
    found = epoch.records(after=seen, timeout_s=1.0)
    assert set(found) == {-1, 0, 1, 2}
    assert all(set(requests) == {1, 2} for requests in found.values())
    assert epoch.records(after=seen, timeout_s=1.0) == {}
    world.answer(epoch, 71)
    assert all(set(requests) == {3} for requests in epoch.records(after=seen, timeout_s=1.0).values())
    epoch.close(is_idle=True)


def test_records_of_a_worker_that_does_not_answer_are_left_out(world: World) -> None:
    epoch = world.open()
    world.answer(epoch, 1)
    world.cluster.hang("device1")
    assert set(epoch.records(after=set(), timeout_s=1.0)) == {-1, 0, 2}
    with pytest.raises(WorkerUnreachableError):
        epoch.reports(min_request_id=0)
    world.cluster.resume("device1")
    epoch.close(is_idle=True)


def test_the_trace_names_requests_by_their_ids_from_a_time_on(world: World) -> None:
    epoch = world.open()
    started_s = world.threads.now()
    world.answer(epoch, 70)
    events = epoch.trace(started_s)
    assert {event.rank for event in events} == {-1, 0, 1, 2}
    assert {event.request for event in events} == {70}
    assert all(0.0 <= event.start_s <= event.stop_s <= 0.1 for event in events)
    epoch.close(is_idle=True)


def test_closing_in_the_middle_frees_workers_that_cannot_be_called(world: World) -> None:
    """They lose the client's connection, which tells them."""
    epoch = world.open()
    world.cluster.hang("device1")
    epoch.close(is_idle=False)
    world.threads.sleep(0.1)
    assert world.cluster.held_epochs == 0


def test_a_slice_is_hashed_once_and_named_by_its_bytes(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgeflow.coordinator import rollout

    hashed: list[Any] = []
    right = rollout.content_of
    monkeypatch.setattr(
        rollout, "content_of", lambda array, *, dtype: (hashed.append(1), right(array, dtype=dtype))[1]
    )
    table = ContentTable(plan.graph)
    item = plan.programs[0].weights[0]
    first = table.content(item)
    assert table.content(item) is first and len(hashed) == 1
    whole = plan.graph.weights[item.tensor]
    expected = whole[tuple(slice(a, b) for a, b in item.region.intervals)]
    np.testing.assert_array_equal(table.array(item), expected)
    assert first == partial(right, dtype=item.dtype)(np.ascontiguousarray(expected))
