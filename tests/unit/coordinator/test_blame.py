"""Who is to blame for a lost epoch: a worker, a link, or nobody."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from edgeflow.cluster import Cluster
from edgeflow.coordinator.blame import Blame
from edgeflow.coordinator.members import Members, Watch
from edgeflow.errors import (
    CodecError,
    EdgeflowError,
    PeerLostError,
    StalePlanError,
    WorkerOutOfMemoryError,
    WorkerOverloadedError,
    WorkerUnreachableError,
)
from edgeflow.plan import Decision, Plan, Weighed
from edgeflow.testing.virtual import VirtualThreads

NAMES = ("device0", "device1", "device2")


class Epoch:
    def device(self, rank: int) -> str:
        return NAMES[rank]


class Watchers:
    """Answers `suspect` without asking anybody."""

    def __init__(self, threads: VirtualThreads) -> None:
        self.lock = threads.lock()
        self.members = Members(NAMES, Watch(), -100.0)
        self.suspected: list[set[str]] = []
        self.gone: set[str] = set()

    def suspect(self, devices: Iterable[str]) -> list[str]:
        names = set(devices)
        self.suspected.append(names)
        return sorted(names & self.gone)


class Case:
    def __init__(self) -> None:
        self.threads = VirtualThreads()
        self.watchers = Watchers(self.threads)
        self.blame = Blame(self.watchers, self.threads)  # type: ignore[arg-type]

    def lost(self, rank: int, error: EdgeflowError) -> list[str]:
        self.blame.tell(Epoch(), rank, error)  # type: ignore[arg-type]
        self.blame.judge()
        return self.blame.reasons

    def usable(self) -> tuple[str, ...]:
        return self.watchers.members.usable(self.threads.now())


@pytest.fixture
def case() -> Case:
    return Case()


@pytest.fixture
def plan() -> Plan:
    graph: Any = None
    return Plan(
        Decision(graph=graph, cluster=Cluster.local([1.0, 1.0, 1.0]), stages=()), Weighed(strategy="x")
    )


def test_a_worker_out_of_memory_is_left_alone_for_a_while(case: Case) -> None:
    assert case.lost(1, WorkerOutOfMemoryError("full")) == ["device1 ran out of memory"]
    assert case.usable() == ("device0", "device2")
    case.threads.sleep(21.0)
    assert case.usable() == NAMES


def test_two_workers_that_lose_each_other_twice_are_kept_apart(case: Case) -> None:
    error = PeerLostError("reset", rank=0, peer=2)
    case.lost(0, error)
    assert case.watchers.members.apart(case.threads.now()) == ()
    assert case.lost(0, error) == ["device0 and device2 lost each other"] * 2
    assert case.watchers.members.apart(case.threads.now()) == (("device0", "device2"),)
    assert case.usable() == NAMES


def test_a_silent_link_is_avoided_at_once(case: Case) -> None:
    case.lost(0, PeerLostError("silence", rank=0, peer=2, is_silent=True))
    assert case.watchers.members.apart(case.threads.now()) == (("device0", "device2"),)


def test_the_link_of_a_worker_that_is_gone_is_not_blamed(case: Case) -> None:
    case.watchers.gone = {"device2"}
    assert case.lost(0, PeerLostError("reset", rank=0, peer=2, is_silent=True)) == []
    assert case.watchers.members.apart(case.threads.now()) == ()


def test_a_worker_that_the_client_loses_twice_is_set_aside(case: Case) -> None:
    case.lost(1, WorkerUnreachableError("closed"))
    assert case.usable() == NAMES
    reasons = case.lost(1, WorkerUnreachableError("closed"))
    assert reasons == [
        "the connection with device1 broke",
        "device1 answers, and others lose it again and again",
    ]
    assert case.usable() == ("device0", "device2")


def test_a_worker_that_has_forgotten_the_plan_is_not_blamed(case: Case) -> None:
    assert case.lost(1, StalePlanError("unknown epoch")) == ["device1 has forgotten the plan"]
    assert case.watchers.suspected == []


def test_a_roll_out_without_memory_blames_the_device_that_had_none(case: Case, plan: Plan) -> None:
    case.blame.of_roll_out(plan, WorkerOverloadedError("full"), "device2")
    assert case.blame.reasons == ["device2 has no memory left"]
    assert case.usable() == ("device0", "device1")


def test_a_roll_out_between_two_workers_parts_them_at_once(case: Case, plan: Plan) -> None:
    case.blame.of_roll_out(plan, PeerLostError("cannot reach", rank=1, peer=2), "device1")
    assert case.watchers.members.apart(case.threads.now()) == (("device1", "device2"),)


def test_a_roll_out_that_nobody_is_to_blame_for(case: Case, plan: Plan) -> None:
    case.blame.of_roll_out(plan, CodecError("odd"), None)
    assert case.blame.reasons == [] and case.usable() == NAMES
