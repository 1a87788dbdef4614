"""Asks workers what they have done, and how fast they are, and tells the balancer."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final

from edgeflow.balancer import Observation, Rebalancer
from edgeflow.coordinator.epoch import Epoch
from edgeflow.coordinator.members import Watch
from edgeflow.coordinator.observe import Observer
from edgeflow.coordinator.watchers import Watchers
from edgeflow.cost import CostModel
from edgeflow.errors import EdgeflowError

#: The while that a device's load is taken over.
_LOAD_S: Final = 5.0


class Measurements:
    """What is measured of the workers of one session.

    Args:
        cost: What durations are compared with; that of each plan's cluster by default.
    """

    def __init__(
        self, balancer: Rebalancer, watchers: Watchers, *, cost: CostModel | None, watch: Watch
    ) -> None:
        self._balancer = balancer
        self._watchers = watchers
        self._cost = cost
        self._watch = watch
        self._observers: dict[int, tuple[Observer, set[int]]] = {}
        #: Device -> (when, for how long) it computed of late.
        self._busy: dict[str, deque[tuple[float, float]]] = {}
        self._probed_s = 0.0

    def load(self, device: str, now_s: float) -> float:
        """The share of the last seconds that a device computed in."""
        busy_s = sum(s for stop, s in tuple(self._busy.get(device, ())) if stop > now_s - _LOAD_S)
        return min(1.0, busy_s / _LOAD_S)

    def observe(self, epochs: Sequence[Epoch]) -> None:
        """Ask workers what they have done since the last time."""
        self._observers = {
            epoch.number: self._observers.get(epoch.number)
            or (Observer(epoch.plan, self._cost or CostModel(cluster=epoch.plan.cluster)), set())
            for epoch in epochs
        }
        found: list[Observation] = []
        for epoch in epochs:
            observer, seen = self._observers[epoch.number]
            records = epoch.records(after=seen, timeout_s=self._watch.ping_timeout_s)
            found += observer.read(records)
        for item in found:
            if item.kind == "compute":
                self._busy.setdefault(item.device, deque(maxlen=4096)).append((item.stop_s, item.seconds))
        if found:
            self._balancer.observe(sorted(found, key=lambda item: item.stop_s))

    def probe_idle(self) -> None:
        """Probe the devices that are not in use, if that is due."""
        every_s = self._watch.probe_every_s
        if every_s > 0 and time.monotonic() - self._probed_s > every_s:
            self.probe(self._balancer.idle_devices)

    def probe(self, devices: Iterable[str]) -> None:
        """Ask devices how fast they are, all at the same time."""
        self._probed_s = time.monotonic()

        def ask(name: str) -> None:
            with contextlib.closing(self._watchers.client(name)) as client:
                try:
                    seconds = client.probe(self._watch.probe_s, timeout_s=5 * self._watch.probe_s + 1.0)
                except EdgeflowError:
                    return
            found.append(
                Observation(
                    kind="probe", device=name, stop_s=time.monotonic(), seconds=seconds, expected_s=0.0
                )
            )

        found: list[Observation] = []
        threads = [
            threading.Thread(target=ask, args=(name,), daemon=True)
            for name in devices
            if self._watchers.members.is_up(name)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self._balancer.observe(sorted(found, key=lambda item: item.stop_s))
