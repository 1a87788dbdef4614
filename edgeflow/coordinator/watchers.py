"""Watches the workers of a session: one thread a worker pings it, and says who comes and goes."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import Protocol

from edgeflow.cluster.cluster import Cluster
from edgeflow.cluster.device import Device
from edgeflow.coordinator.client import WorkerClient
from edgeflow.coordinator.members import Change, Members, Watch
from edgeflow.errors import EdgeflowError
from edgeflow.net.security import Access

logger = logging.getLogger(__name__)


class Carrying(Protocol):
    """The session, as those who ping its workers see it; all of this may be called from any thread."""

    def epochs_on(self, device: str) -> list[int]:
        """Epochs that a worker is to hold."""

    def is_carrying(self, device: str) -> bool:
        """Whether frames are on their way to or from its worker, and arrive."""


class Watchers:
    """A thread for each worker of one session.

    Args:
        cluster: All devices; some may be added.
        addresses: Name of a device -> address; shared with the session.
        access: What is shown to the workers.
        on_changes: Told who came and went, from any of the threads; must return soon.
        closed: Set when they are to end.

    Attributes:
        lock: Guards the members and the cluster.
        members: Who is there.
        cluster: All devices that were ever named.
        active: Device -> requests that it said to have under way.
    """

    def __init__(
        self,
        session: Carrying,
        cluster: Cluster,
        addresses: dict[str, str],
        *,
        access: Access | None,
        watch: Watch,
        on_changes: Callable[[Iterable[Change]], None],
        closed: threading.Event,
    ) -> None:
        self.lock = threading.Lock()
        self.members = Members((device.name for device in cluster.devices), watch, time.monotonic())
        self.cluster = cluster
        self.active: dict[str, int] = {}
        self._session = session
        self._addresses = addresses
        self._access = access
        self._watch = watch
        self._on_changes = on_changes
        self._closed = closed
        self._threads = [self._watcher(device.name) for device in cluster.devices]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        """Wait for all of them to have ended."""
        for thread in self._threads:
            if thread.ident is not None and thread is not threading.current_thread():
                thread.join()

    def add(self, device: Device, address: str) -> None:
        """Watch for a worker that may join."""
        with self.lock:
            self._addresses[device.name] = address
            if all(device.name != other.name for other in self.cluster.devices):
                self.cluster = Cluster(
                    name=self.cluster.name,
                    devices=(*self.cluster.devices, device),
                    network=self.cluster.network,
                    links=self.cluster.links,
                    segments=self.cluster.segments,
                    source=self.cluster.devices[self.cluster.source_rank].name,
                )
                self.members.add(device.name, time.monotonic())
                thread = self._watcher(device.name)
                self._threads.append(thread)
                thread.start()

    def client(self, device: str) -> WorkerClient:
        """What calls a worker, at the address that it has now."""
        return WorkerClient(self._addresses[device], self.cluster.rank_of(device), self._access)

    def suspect(self, devices: Iterable[str]) -> list[str]:
        """Ask workers now; return who does not answer, and is taken to be lost, or is lost already."""
        names = list(dict.fromkeys(devices))
        asked = [name for name in names if self.members.is_up(name)]

        def ask(name: str) -> None:
            with contextlib.closing(self.client(name)) as client:
                self._ping(name, client, self._watch.ping_timeout_s, is_suspect=True)

        threads = [threading.Thread(target=ask, args=(name,), daemon=True) for name in asked]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return [name for name in names if not self.members.is_up(name)]

    def _watcher(self, device: str) -> threading.Thread:
        return threading.Thread(
            target=self._watch_worker, args=(device,), name=f"edgeflow-watch-{device}", daemon=True
        )

    def _watch_worker(self, device: str) -> None:
        client = self.client(device)
        try:
            while True:
                with self.lock:
                    wait_s = self.members.wait_s(device)
                if self._closed.wait(wait_s):
                    return
                if client.address != self._addresses[device]:
                    client.close()
                    client = self.client(device)
                with self.lock:
                    timeout_s = self.members.ping_timeout_s(device, time.monotonic())
                self._ping(device, client, timeout_s)
        finally:
            client.close()  # the latest: the address may have changed

    def _ping(self, device: str, client: WorkerClient, timeout_s: float, *, is_suspect: bool = False) -> None:
        epochs = self._session.epochs_on(device)
        try:
            pong = client.ping(epochs, timeout_s=timeout_s)
        except Exception as error:
            if not isinstance(error, EdgeflowError):  # a fault of ours; whoever is not watched is never lost
                logger.exception("watch.failed", extra={"device": device})
            is_carrying = self._session.is_carrying(device)
            with self.lock:
                changes = (
                    self.members.lost(device, str(error))
                    if is_suspect and not is_carrying
                    else self.members.missed(device, str(error), time.monotonic(), is_carrying=is_carrying)
                )
        else:
            with self.lock:
                self.active[device] = pong.num_active_requests
                changes = self.members.heard(device, pong.instance, time.monotonic())
        self._on_changes(changes)
