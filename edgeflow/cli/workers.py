"""Waiting for workers that announce themselves."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from edgeflow.cli.screen import note, waiting
from edgeflow.errors import WorkerUnreachableError

if TYPE_CHECKING:
    from edgeflow.runtime.registry import Member
    from edgeflow.runtime.security import Access


@contextmanager
def await_workers(
    devices: Sequence[str], *, registry: str | None, access: Access, wait_s: float, insecure: bool
) -> Iterator[dict[str, str]]:
    """Yield the address of each device, once all have joined; the registry stays open until the end.

    Args:
        devices: Names, as workers announce them.
        registry: Where to wait for workers that join; by mDNS if None.

    Raises:
        WorkerUnreachableError: If one has not joined within ``wait_s``; the message names it.
    """
    from edgeflow.runtime.registry import RegistryServer
    from edgeflow.runtime.registry.mdns import MdnsBrowser

    found: dict[str, str] = {}
    changed = threading.Condition()

    def joined(address: str, member: Member) -> None:
        with changed:
            found[member.name] = address
            changed.notify_all()
        note(f"{member.name} has joined at {address}")

    def left(address: str, member: Member) -> None:
        with changed:
            if found.get(member.name) == address:
                del found[member.name]
        note(f"{member.name} at {address} has left")

    with ExitStack() as stack:
        if registry is None:
            stack.enter_context(MdnsBrowser(on_join=joined, on_leave=left))
        else:
            server = RegistryServer(registry, access=access, on_join=joined, on_leave=left, insecure=insecure)
            stack.callback(server.stop)
            note(f"waiting for workers at {server.address}")
        with waiting(f"waiting for {', '.join(devices)}"), changed:
            if not changed.wait_for(lambda: found.keys() >= set(devices), timeout=wait_s):
                missing = [device for device in devices if device not in found]
                raise WorkerUnreachableError(
                    f"no worker has joined as {', '.join(missing)} in {wait_s:.0f} s"
                )
            addresses = dict(found)
        yield addresses
