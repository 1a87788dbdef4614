"""`LocalLauncher` does what every launcher does; it starts real processes."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator

import psutil
import pytest

from edgeflow.coordinator.processes import LocalLauncher, LocalWorkers
from tests.unit.coordinator.launchers import *  # noqa: F403
from tests.unit.coordinator.launchers import Launched
from tests.waiting import eventually

pytestmark = pytest.mark.slow

DEVICES = ("a", "b")


def _is_listening(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


@pytest.fixture
def launched() -> Iterator[Launched]:
    pytest.importorskip("torch")
    launcher = LocalLauncher(
        LocalWorkers({0: 1.0, 1: 0.5}, threads=1, executor="torch"), dict(enumerate(DEVICES))
    )

    def kill(device: str) -> None:
        pid = launcher.pids[DEVICES.index(device)]
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)

    yield Launched(launcher, DEVICES, can_replace=True, kill=kill, is_listening=_is_listening)
    launcher.close()


def test_its_workers_have_process_ids(launched: Launched) -> None:
    assert set(launched.launcher.pids) == {0, 1}
    assert all(psutil.pid_exists(pid) for pid in launched.launcher.pids.values())


def test_a_device_that_it_does_not_know_is_not_replaced(launched: Launched) -> None:
    assert launched.launcher.replace("c") is None
