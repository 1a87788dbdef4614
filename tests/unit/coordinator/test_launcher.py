"""Launchers without processes; that of processes is in `tests/process/test_launcher.py`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeflow.coordinator.launcher import Elsewhere
from edgeflow.testing.memory_cluster import MemoryCluster
from edgeflow.testing.virtual import VirtualThreads
from tests.unit.coordinator.launchers import *  # noqa: F403
from tests.unit.coordinator.launchers import Launched

DEVICES = ("a", "b")


@pytest.fixture(params=["memory", "memory, fixed", "elsewhere"])
def launched(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Launched]:
    can_replace = request.param == "memory"
    cluster = MemoryCluster(DEVICES, tmp_path, threads=VirtualThreads(), can_replace=can_replace)
    is_elsewhere = request.param == "elsewhere"
    yield Launched(
        launcher=Elsewhere(dict(cluster.addresses)) if is_elsewhere else cluster,
        devices=DEVICES,
        can_replace=can_replace,
        kill=cluster.kill,
        is_listening=lambda address: address in cluster._running,
        are_own=not is_elsewhere,
    )
    cluster.close()
