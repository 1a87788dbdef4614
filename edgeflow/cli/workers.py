"""Wait for workers that announce themselves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from edgeflow.cli.screen import note, waiting
from edgeflow.errors import WorkerUnreachableError

if TYPE_CHECKING:
    from edgeflow.net.security import Access
    from edgeflow.worker.registry import Member
    from edgeflow.worker.registry.joined import JoinedWorkers


@contextmanager
def await_workers(
    devices: Sequence[str], *, registry: str | None, access: Access, wait_s: float, insecure: bool
) -> Iterator[JoinedWorkers]:
    """Yield the workers once all these devices have joined; the registry stays open until the end.

    Args:
        devices: Names that the workers announce.
        registry: Address to open a registry on; None waits for mDNS announcements.

    Raises:
        WorkerUnreachableError: If a device has not joined within ``wait_s``; the message names it.
    """
    from edgeflow.worker.registry import RegistryServer
    from edgeflow.worker.registry.joined import JoinedWorkers
    from edgeflow.worker.registry.mdns import MdnsBrowser

    found = JoinedWorkers({})

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
