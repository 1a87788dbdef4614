"""The threads that watch workers go on, whatever a ping raises."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable

import pytest

from edgeflow.cluster import Cluster
from edgeflow.coordinator.client import WorkerClient
from edgeflow.coordinator.control import Pong
from edgeflow.coordinator.members import Change, Watch
from edgeflow.coordinator.watchers import Watchers
from edgeflow.threads import SYSTEM


class Session:
    def epochs_on(self, device: str) -> list[int]:
        return []

    def is_carrying(self, device: str) -> bool:
        return False


class Flawed(WorkerClient):
    """Raises what nobody thought of, until it is well again."""

    def __init__(self, is_well: threading.Event) -> None:
        self.address = "nowhere:1"
        self._is_well = is_well

    def ping(self, epochs: Iterable[int], *, timeout_s: float) -> Pong:
        if not self._is_well.is_set():
            raise ZeroDivisionError("a fault of ours")
        return Pong(instance="a", num_active_requests=0)

    def close(self) -> None:
        pass


def until(condition: object, seconds: float = 10.0) -> None:
    assert callable(condition)
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_watcher_outlives_what_it_did_not_expect(caplog: pytest.LogCaptureFixture) -> None:
    is_well, closed = threading.Event(), threading.Event()
    changes: list[Change] = []
    watchers = Watchers(
        Session(),
        Cluster.local([1.0]),
        {"device0": "nowhere:1"},
        control=lambda address, rank: Flawed(is_well),
        watch=Watch(interval_s=0.01, lost_after_s=0.05, max_back_off_s=0.02),
        on_changes=changes.extend,
        closed=closed,
        threads=SYSTEM,
    )
    with caplog.at_level(logging.ERROR):
        watchers.start()
        try:
            until(lambda: not watchers.members.is_up("device0"))
            is_well.set()
            until(lambda: watchers.members.is_up("device0"))
        finally:
            closed.set()
            watchers.join()
    assert any(record.message == "watch.failed" for record in caplog.records)
    assert len(changes) >= 2
