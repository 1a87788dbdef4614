"""What every launcher does: one suite; a test of a launcher imports it and brings a fixture ``launched``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from edgeflow.coordinator.launcher import Launcher


class Launched(NamedTuple):
    """A launcher to try.

    Attributes:
        devices: Those that it has workers of.
        can_replace: Whether it starts workers anew.
        kill: Ends the worker of a device.
        is_listening: Whether somebody listens at an address.
        are_own: Whether its workers end with it.
    """

    launcher: Launcher
    devices: tuple[str, ...]
    can_replace: bool
    kill: Callable[[str], None]
    is_listening: Callable[[str], bool]
    are_own: bool = True


def test_every_device_has_an_address_of_its_own_where_its_worker_listens(launched: Launched) -> None:
    addresses = launched.launcher.addresses
    assert isinstance(addresses, Mapping)
    assert set(addresses) == set(launched.devices)
    assert len(set(addresses.values())) == len(launched.devices)
    assert all(launched.is_listening(address) for address in addresses.values())


def test_pids_are_those_of_processes_of_this_machine(launched: Launched) -> None:
    pids = launched.launcher.pids
    assert set(pids) <= set(range(len(launched.devices)))
    assert len(set(pids.values())) == len(pids)


def test_a_worker_that_runs_is_not_replaced(launched: Launched) -> None:
    before = dict(launched.launcher.addresses)
    assert launched.launcher.replace(launched.devices[0]) is None
    assert dict(launched.launcher.addresses) == before


def test_a_worker_that_is_gone_is_replaced_where_that_is_possible(launched: Launched) -> None:
    first, second = launched.devices[:2]
    launched.kill(first)
    address = launched.launcher.replace(first)
    if not launched.can_replace:
        assert address is None
        return
    assert address is not None and launched.is_listening(address)
    assert launched.launcher.addresses[first] == address
    assert launched.is_listening(launched.launcher.addresses[second])
    assert launched.launcher.replace(first) is None


def test_closing_ends_its_own_workers_only_and_may_be_done_twice(launched: Launched) -> None:
    addresses = dict(launched.launcher.addresses)
    launched.launcher.close()
    launched.launcher.close()
    assert all(launched.is_listening(address) is not launched.are_own for address in addresses.values())
