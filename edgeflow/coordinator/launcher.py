"""Where workers come from: the `Launcher` protocol.

`edgeflow.coordinator.processes` starts them as processes of this machine. To let another engine carry
workers, write a file beside it, and name it in ``tests/unit/coordinator/test_launcher.py``, whose tests
every launcher passes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Launcher(Protocol):
    """The workers of one session."""

    @property
    def addresses(self) -> Mapping[str, str]:
        """Name of a device -> ``HOST:PORT`` of its worker."""

    @property
    def pids(self) -> Mapping[int, int]:
        """Rank -> process id, of the workers that were started on this machine."""

    def replace(self, device: str) -> str | None:
        """Start another worker for a device whose worker is gone; may be called from any thread.

        Returns:
            Its address, once it listens; None if the device's worker still runs, or cannot be started here.
        """

    def close(self) -> None:
        """End the workers that were started here; may be called twice."""


class Elsewhere:
    """Workers that somebody else has started, and looks after.

    Args:
        addresses: Name of a device -> ``HOST:PORT``.
    """

    def __init__(self, addresses: Mapping[str, str]) -> None:
        self.addresses = addresses
        self.pids: Mapping[int, int] = {}

    def replace(self, device: str) -> str | None:
        return None

    def close(self) -> None:
        """Leave them running."""
