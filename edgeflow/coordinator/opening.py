"""Epochs that are being opened; opening may be given up meanwhile."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from edgeflow.coordinator.epoch import Epoch, Shared
from edgeflow.coordinator.rollout import ContentTable
from edgeflow.errors import ConfigError, EdgeflowError
from edgeflow.net.proof import new_epoch
from edgeflow.plan import Decision
from edgeflow.plan.program import CLIENT


class Openings:
    """The epochs that a session is bringing onto its workers.

    Args:
        addresses: Name of a device -> address; shared with the session.
        timeout_s: Of each control call.

    Attributes:
        blamed: Name of the device that made the last one fail.
    """

    def __init__(self, addresses: Mapping[str, str], shared: Shared, *, timeout_s: float) -> None:
        self._addresses = addresses
        self._shared = shared
        self._timeout_s = timeout_s
        self._opening: dict[int, Epoch] = {}
        self.blamed: str | None = None

    def open(self, way: Decision, contents: ContentTable, *, connect_timeout_s: float) -> Epoch:
        """Return an epoch that all of its workers are ready for.

        Args:
            way: A plan without replicas.
            contents: Of its graph.
            connect_timeout_s: Until a worker answers at all.

        Raises:
            ConfigError: If a device has no address.
            ClusterError: If a worker cannot take its part, or the epoch was given up.
        """
        names = {rank: way.cluster.devices[rank].name for rank in way.programs if rank != CLIENT}
        for name in names.values():
            if name not in self._addresses:
                raise ConfigError(
                    f"the plan uses device {name!r}, which the session has no address of; "
                    f"it has those of {', '.join(sorted(self._addresses))}"
                )
        addresses = {rank: self._addresses[name] for rank, name in names.items()}
        epoch = Epoch(
            way,
            new_epoch(),
            addresses,
            shared=self._shared,
            contents=contents,
            timeout_s=self._timeout_s,
            connect_timeout_s=connect_timeout_s,
        )
        with self._shared.lock:
            self._opening[epoch.number] = epoch
        self.blamed = None
        try:
            epoch.open()
        except EdgeflowError:
            self.blamed = epoch.blamed
            raise
        finally:
            with self._shared.lock:
                del self._opening[epoch.number]
        return epoch

    @property
    def epochs(self) -> tuple[Epoch, ...]:
        """The epochs that are not ready yet; the lock is held."""
        return tuple(self._opening.values())

    def give_up(self, devices: Collection[str], error: EdgeflowError) -> None:
        """Let the openings that want all of these devices fail; the lock is held."""
        for epoch in self.epochs:
            if set(devices) <= set(epoch.devices):
                epoch.interrupt(error)
