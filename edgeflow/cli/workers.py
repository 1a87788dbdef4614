"""Wait for workers that announce themselves."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from edgeflow.cli.screen import note, waiting
from edgeflow.errors import WorkerUnreachableError

if TYPE_CHECKING:
    from edgeflow.net.security import Access
    from edgeflow.worker.registry import Member


class Joined:
    """The workers that have joined.

    Attributes:
        addresses: Device name -> address, of all workers that have joined, awaited or not.
    """

    def __init__(self, addresses: dict[str, str]) -> None:
        self.addresses = addresses
        self._changed = threading.Condition()
        self._follow: Callable[[str, str], None] = lambda name, address: None

    def follow(self, use: Callable[[str, str], None]) -> None:
        """Call ``use`` with name and address of each worker that joins from now on, or joins again."""
        with self._changed:
            self._follow = use

    def add(self, name: str, address: str) -> None:
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


@contextmanager
def await_workers(
    devices: Sequence[str], *, registry: str | None, access: Access, wait_s: float, insecure: bool
) -> Iterator[Joined]:
    """Yield the workers once all these devices have joined; the registry stays open until the end.

    Args:
        devices: Names that the workers announce.
        registry: Address to open a registry on; None waits for mDNS announcements.

    Raises:
        WorkerUnreachableError: If a device has not joined within ``wait_s``; the message names it.
    """
    from edgeflow.worker.registry import RegistryServer
    from edgeflow.worker.registry.mdns import MdnsBrowser

    found = Joined({})

    def joined(address: str, member: Member) -> None:
        note(f"{member.name} has joined at {address}")
        found.add(member.name, address)

    def left(address: str, member: Member) -> None:
        found.remove(member.name, address)
        note(f"{member.name} at {address} has left")

    with ExitStack() as stack:
        if registry is None:
            stack.enter_context(MdnsBrowser(on_join=joined, on_leave=left))
        else:
            server = RegistryServer(registry, access=access, on_join=joined, on_leave=left, insecure=insecure)
            stack.callback(server.stop)
            note(f"waiting for workers at {server.address}")
        with waiting(f"waiting for {', '.join(devices)}"):
            missing = found.wait_for(devices, wait_s)
        if missing:
            raise WorkerUnreachableError(f"no worker has joined as {', '.join(missing)} in {wait_s:.0f} s")
        yield found
