"""Watches the workers of a session: one thread per worker pings it, and reports when it comes or goes."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable
from functools import partial
from typing import Protocol

from edgeflow.cluster.cluster import Cluster
from edgeflow.cluster.device import Device
from edgeflow.coordinator.control import Control, ControlFactory
from edgeflow.coordinator.members import Change, Members, Watch
from edgeflow.errors import EdgeflowError
from edgeflow.threads import Event, Thread, Threads, side_by_side

logger = logging.getLogger(__name__)


class Carrying(Protocol):
    """The session, as the watchers of its workers see it; its methods may be called from any thread."""

    def epochs_on(self, device: str) -> list[int]:
        """Return the epochs that a device's worker is to hold."""

    def is_carrying(self, device: str) -> bool:
        """Return whether frames are on their way to or from its worker, and arrive."""


class Watchers:
    """A thread for each worker of one session.

    Args:
        cluster: All devices; some may be added.
        addresses: Name of a device -> address; shared with the session.
        control: Makes what calls a worker.
        on_changes: Told which workers came and went, from any of the threads; must return soon.
        closed: Set when the threads are to end.

    Attributes:
        lock: Guards the members and the cluster.
        members: Which workers are up.
        cluster: All devices that were ever named.
        active: Device -> requests that it last reported to have under way.
    """

    def __init__(
        self,
        session: Carrying,
        cluster: Cluster,
        addresses: dict[str, str],
        *,
        control: ControlFactory,
        watch: Watch,
        on_changes: Callable[[Iterable[Change]], None],
        closed: Event,
        threads: Threads,
    ) -> None:
        self.lock = threads.lock()
        self.members = Members((device.name for device in cluster.devices), watch, threads.now())
        self.cluster = cluster
        self.active: dict[str, int] = {}
        self._session = session
        self._addresses = addresses
        self._control = control
        self._threads = threads
        self._watch = watch
        self._on_changes = on_changes
        self._closed = closed
        self._watching: list[Thread] = []

    def start(self) -> None:
        for device in self.cluster.devices:
            self._watching.append(self._watcher(device.name))

    def join(self) -> None:
        """Wait for all threads to have ended."""
        for thread in self._watching:
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
                self.members.add(device.name, self._threads.now())
                self._watching.append(self._watcher(device.name))

    def client(self, device: str) -> Control:
        """Return what calls a worker, at the address that it has now."""
        return self._control(self._addresses[device], self.cluster.rank_of(device))

    def suspect(self, devices: Iterable[str]) -> list[str]:
        """Ask workers now; return those that do not answer, which then count as lost, or are lost already."""
        names = list(dict.fromkeys(devices))
        asked = [name for name in names if self.members.is_up(name)]

        def ask(name: str) -> None:
            with contextlib.closing(self.client(name)) as client:
                self._ping(name, client, self._watch.ping_timeout_s, is_suspect=True)

        side_by_side(self._threads, [partial(ask, name) for name in asked], name="edgeflow-suspect")
        return [name for name in names if not self.members.is_up(name)]

    def _watcher(self, device: str) -> Thread:
        return self._threads.start(partial(self._watch_worker, device), name=f"edgeflow-watch-{device}")

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
                    timeout_s = self.members.ping_timeout_s(device, self._threads.now())
                self._ping(device, client, timeout_s)
        finally:
            client.close()  # the latest one: the address may have changed

    def _ping(self, device: str, client: Control, timeout_s: float, *, is_suspect: bool = False) -> None:
        epochs = self._session.epochs_on(device)
        try:
            pong = client.ping(epochs, timeout_s=timeout_s)
        except Exception as error:
            if not isinstance(
                error, EdgeflowError
            ):  # a defect of ours; an unwatched worker would never count as lost
                logger.exception("watch.failed", extra={"device": device})
            is_carrying = self._session.is_carrying(device)
            with self.lock:
                changes = (
                    self.members.lost(device, str(error))
                    if is_suspect and not is_carrying
                    else self.members.missed(device, str(error), self._threads.now(), is_carrying=is_carrying)
                )
        else:
            with self.lock:
                self.active[device] = pong.num_active_requests
                changes = self.members.heard(device, pong.instance, self._threads.now())
        self._on_changes(changes)
