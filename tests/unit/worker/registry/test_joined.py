"""The workers that have joined."""

from __future__ import annotations

from edgeflow.worker.registry.joined import JoinedWorkers


def test_waiting_returns_the_devices_that_have_not_joined() -> None:
    found = JoinedWorkers({"a": "a:1"})
    assert found.wait_for(["a", "b"], 0.0) == ["b"]
    found.add("b", "b:1")
    assert found.wait_for(["a", "b"], 0.0) == []


def test_a_worker_that_has_joined_again_elsewhere_is_not_removed() -> None:
    found = JoinedWorkers({})
    found.add("a", "a:1")
    found.add("a", "a:2")
    found.remove("a", "a:1")
    assert found.addresses == {"a": "a:2"}
    found.remove("a", "a:2")
    assert found.addresses == {}


def test_followers_are_told_of_later_workers_only() -> None:
    found = JoinedWorkers({})
    found.add("a", "a:1")
    told: list[tuple[str, str]] = []
    found.follow(lambda name, address: told.append((name, address)))
    found.add("b", "b:1")
    assert told == [("b", "b:1")]
