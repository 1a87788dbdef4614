"""Asks workers for their records and their speed, and tells the balancer."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Final

from edgeflow.balancer import Observation, Rebalancer
from edgeflow.coordinator.epoch import Epoch
from edgeflow.coordinator.members import Watch
from edgeflow.coordinator.observe import Observer
from edgeflow.coordinator.watchers import Watchers
from edgeflow.cost import CostModel
from edgeflow.errors import EdgeflowError
from edgeflow.threads import Threads, side_by_side

#: The time that a device's load is averaged over.
_LOAD_S: Final = 5.0


class Measurements:
    """The measurements of the workers of one session.

    Args:
        cost: Predicts the durations that are compared with; that of each plan's cluster by default.
    """

    def __init__(
        self,
        balancer: Rebalancer,
        watchers: Watchers,
        *,
        cost: CostModel | None,
        watch: Watch,
        threads: Threads,
    ) -> None:
        self._balancer = balancer
        self._watchers = watchers
        self._cost = cost
        self._watch = watch
        self._threads = threads
        self._observers: dict[int, tuple[Observer, set[int]]] = {}
        #: Device -> (stop, seconds) of its latest computing.
        self._busy: dict[str, deque[tuple[float, float]]] = {}
        self._probed_s = 0.0

    def load(self, device: str, now_s: float) -> float:
        """Return the share of the last `_LOAD_S` seconds in which a device computed."""
        busy_s = sum(s for stop, s in tuple(self._busy.get(device, ())) if stop > now_s - _LOAD_S)
        return min(1.0, busy_s / _LOAD_S)

    def observe(self, epochs: Sequence[Epoch]) -> None:
        """Ask workers for their records since the last time."""
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
        """Probe the devices that are not in use, if a probe is due."""
        every_s = self._watch.probe_every_s
        if every_s > 0 and self._threads.now() - self._probed_s > every_s:
            self.probe(self._balancer.idle_devices)

    def probe(self, devices: Iterable[str]) -> None:
        """Probe the speed of devices, all at the same time."""
        self._probed_s = self._threads.now()

        def ask(name: str) -> None:
            with contextlib.closing(self._watchers.client(name)) as client:
                try:
                    seconds = client.probe(self._watch.probe_s, timeout_s=5 * self._watch.probe_s + 1.0)
                except EdgeflowError:
                    return
            found.append(
                Observation(
                    kind="probe", device=name, stop_s=self._threads.now(), seconds=seconds, expected_s=0.0
                )
            )

        found: list[Observation] = []
        asked = [name for name in devices if self._watchers.members.is_up(name)]
        side_by_side(self._threads, [partial(ask, name) for name in asked], name="edgeflow-probe")
        self._balancer.observe(sorted(found, key=lambda item: item.stop_s))
