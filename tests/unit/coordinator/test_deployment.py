"""`deploy`: arguments that do not fit each other or the cluster are refused before anything is started."""

from __future__ import annotations

from typing import Any

import pytest

from edgeflow.coordinator import deployment
from edgeflow.coordinator.deployment import deploy
from edgeflow.coordinator.launcher import Elsewhere
from edgeflow.errors import ConfigError
from edgeflow.plan import Plan
from edgeflow.planner import plan as make_plan
from tests.clusters import slow
from tests.unit.plan.tiny import mlp


@pytest.fixture(scope="module")
def plan() -> Plan:
    """Of three devices the plan uses one."""
    return make_plan(mlp(), slow([1.0, 0.5, 0.25]), strategy="single")


@pytest.fixture(autouse=True)
def _nothing_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    def started(*args: object, **kwargs: object) -> None:
        raise AssertionError("something was started")

    monkeypatch.setattr(deployment, "Session", started)
    monkeypatch.setattr(deployment, "LocalWorkers", started)


WORKERS = ["a:1", "b:2", "c:3"]

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "neither workers nor local": ({}, "give one of: the addresses of workers, local=True, or a launcher"),
    "workers and local": ({"workers": WORKERS, "local": True}, "give one of"),
    "a text": ({"workers": "a:1"}, "must be a list of addresses, got the text 'a:1'"),
    "too few": ({"workers": ["a:1"]}, "1 worker addresses for a cluster of 3 devices .device0, device1"),
    "no port": ({"workers": ["a:1", "b", "c:3"]}, "worker address 'b' is not HOST:PORT"),
    "no host": ({"workers": [":1", "b:2", "c:3"]}, "worker address ':1' is not HOST:PORT"),
    "a port beyond any": ({"workers": ["a:1", "b:65536", "c:3"]}, "'b:65536' is not HOST:PORT"),
    "port 0": ({"workers": ["a:0", "b:2", "c:3"]}, "'a:0' is not HOST:PORT"),
    "a port in words": ({"workers": ["a:http", "b:2", "c:3"]}, "'a:http' is not HOST:PORT"),
    "a transport that there is not": (
        {"workers": WORKERS, "transport": "pigeon"},
        "no transport 'pigeon'; known",
    ),
    "no time": ({"workers": WORKERS, "timeout_s": 0.0}, "timeout_s must be positive, got 0"),
    "balance without a planner": ({"workers": WORKERS, "balance": True}, "needs a planner"),
    "no threads": ({"local": True, "threads": 0, "executor": "torch"}, "threads must be at least 1, got 0"),
    "a back end that there is not": ({"local": True, "executor": "abacus"}, "abacus"),
    "one address for two": (
        {"workers": ["a:1", "b:2", "a:1"], "replan": lambda *args: None},
        "a:1 is given for rank 0 and for rank 2",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_arguments_that_do_not_fit_are_refused(what: str, plan: Plan) -> None:
    arguments, message = REFUSED[what]
    with pytest.raises(ConfigError, match=message):
        deploy(plan, **arguments)


class Caught(Exception):
    pass


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the session would be made of."""
    found: dict[str, Any] = {}

    def make(plan: Plan, launcher: Any, **arguments: Any) -> None:
        found.update(arguments, launcher=launcher)
        raise Caught

    monkeypatch.setattr(deployment, "Session", make)
    return found


def test_devices_that_the_plan_does_not_use_may_share_an_address(plan: Plan, session: dict[str, Any]) -> None:
    with pytest.raises(Caught):
        deploy(plan, workers=["a:1", "b:2", "b:2"], max_waiting=5)
    assert isinstance(session["launcher"], Elsewhere)
    assert session["launcher"].addresses == {"device0": "a:1", "device1": "b:2", "device2": "b:2"}
    assert (session["max_waiting"], session["timeout_s"], session["care"]) == (5, 60.0, None)


class Started:
    """Stands for processes."""

    def __init__(self, speeds: dict[int, float], **options: Any) -> None:
        self.speeds, self.options = speeds, options
        self.addresses = {rank: f"127.0.0.1:{rank + 1}" for rank in speeds}
        self.pids = {rank: 1000 + rank for rank in speeds}
        self.is_closed = False

    def close(self) -> None:
        self.is_closed = True


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Started]:
    found: list[Started] = []

    def start(*args: Any, **kwargs: Any) -> Started:
        found.append(Started(*args, **kwargs))
        return found[-1]

    monkeypatch.setattr(deployment, "LocalWorkers", start)
    return found


def test_local_workers_end_when_the_session_cannot_begin(
    plan: Plan, session: dict[str, Any], started: list[Started]
) -> None:
    with pytest.raises(Caught):
        deploy(plan, local=True, executor="torch")
    (workers,) = started
    assert workers.is_closed
    (rank,) = plan.devices
    assert set(workers.speeds) == {rank}
    assert session["launcher"].addresses == {f"device{rank}": f"127.0.0.1:{rank + 1}"}
    assert workers.options["token"]
    assert workers.options["memory_bytes"] == {rank: plan.cluster.devices[rank].memory_bytes}


def test_all_devices_run_if_they_may_be_used_later(
    plan: Plan, session: dict[str, Any], started: list[Started]
) -> None:
    with pytest.raises(Caught):
        deploy(plan, local=True, executor="torch", replan=lambda *args: plan, balance=True)
    assert started[0].speeds == pytest.approx({0: 1.0, 1: 0.5, 2: 0.25})
    assert session["care"].is_balancing


def test_speeds_are_not_emulated_if_that_is_not_wanted(
    plan: Plan, session: dict[str, Any], started: list[Started]
) -> None:
    with pytest.raises(Caught):
        deploy(plan, local=True, executor="torch", replan=lambda *args: plan, emulate_speeds=False)
    assert started[0].speeds == {0: 1.0, 1: 1.0, 2: 1.0}
    assert not session["care"].is_balancing
