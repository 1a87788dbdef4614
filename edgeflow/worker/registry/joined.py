"""The workers that have joined, as the listeners of a registry or of mDNS report them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence


class JoinedWorkers:
    """The workers that have joined; safe to use from several threads.

    Attributes:
        addresses: Device name -> address, of all workers that have joined and not left.
    """

    def __init__(self, addresses: dict[str, str]) -> None:
        self.addresses = addresses
        self._changed = threading.Condition()
        self._follow: Callable[[str, str], None] = lambda name, address: None

    def follow(self, use: Callable[[str, str], None]) -> None:
        """Call ``use`` with the name and address of each worker that joins, or joins again, from now on."""
        with self._changed:
            self._follow = use

    def add(self, name: str, address: str) -> None:
        """Add a worker that has joined; call what `follow` was given."""
        with self._changed:
            self.addresses[name] = address
            self._changed.notify_all()
            self._follow(name, address)

    def remove(self, name: str, address: str) -> None:
        """Remove a worker that has left, unless it has joined again at another address."""
        with self._changed:
            if self.addresses.get(name) == address:
                del self.addresses[name]

    def wait_for(self, devices: Sequence[str], wait_s: float) -> list[str]:
        """Wait up to ``wait_s`` for all these devices; return those that have not joined."""
        with self._changed:
            self._changed.wait_for(lambda: self.addresses.keys() >= set(devices), timeout=wait_s)
            return [device for device in devices if device not in self.addresses]
