"""Workers that multicast DNS finds, as the browser tells of them; with a fake zeroconf."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from edgeflow.worker.registry.mdns import MdnsBrowser, member_of
from edgeflow.worker.registry.state import Member


@pytest.mark.parametrize(
    ("addresses", "port", "name", "expected"),
    [
        (["192.168.1.20"], 7070, b"pi4", "192.168.1.20:7070"),
        (["fe80::1"], 7070, b"pi4", "[fe80::1]:7070"),
        (["192.168.1.20", "10.0.0.1"], 7070, b"pi4", "192.168.1.20:7070"),
        ([], 7070, b"pi4", None),
        (["192.168.1.20"], None, b"pi4", None),
        (["192.168.1.20"], 0, b"pi4", None),
        (["192.168.1.20"], 7070, None, None),
        (["192.168.1.20"], 7070, "\xff".encode("latin-1"), None),
    ],
)
def test_what_an_announcement_says(
    addresses: list[str], port: int | None, name: bytes | None, expected: str | None
) -> None:
    member = member_of(addresses, port, {b"name": name})
    assert (None if member is None else member.address) == expected


def test_a_long_name_is_cut() -> None:
    member = member_of(["10.0.0.1"], 1, {b"name": b"x" * 200})
    assert member is not None and member.name == "x" * 63


class Info:
    def __init__(self, address: str, name: str) -> None:
        self.port = 7070
        self.properties = {b"name": name.encode()}
        self._address = address

    def parsed_addresses(self) -> list[str]:
        return [self._address]


class Network:
    """Stands for zeroconf: service -> what it says."""

    def __init__(self) -> None:
        self.services: dict[str, Info] = {}

    def get_service_info(self, kind: str, service: str, timeout: int) -> Info | None:
        return self.services.get(service)


class World:
    def __init__(self) -> None:
        self.network = Network()
        self.told: list[tuple[str, str, Any]] = []
        self.browser = MdnsBrowser.__new__(MdnsBrowser)
        self.browser._zeroconf = self.network
        self.browser._known = {}
        self.browser._lock = threading.Lock()
        self.browser._on_join = lambda address, member: self.told.append(("join", address, member))
        self.browser._on_leave = lambda address, member: self.told.append(("leave", address, member))

    def found(self, service: str, address: str, name: str = "pi4") -> list[tuple[str, str]]:
        self.network.services[service] = Info(address, name)
        self.browser.found(service)
        return self.news()

    def news(self) -> list[tuple[str, str]]:
        told, self.told = self.told, []
        assert all(isinstance(member, Member) and member.address == address for _, address, member in told)
        return [(what, address) for what, address, _ in told]


def test_a_worker_comes_once_moves_and_goes() -> None:
    world = World()
    assert world.found("a", "10.0.0.1") == [("join", "10.0.0.1:7070")]
    assert world.found("a", "10.0.0.1") == []
    assert world.found("a", "10.0.0.2") == [("leave", "10.0.0.1:7070"), ("join", "10.0.0.2:7070")]
    world.browser.lost("a")
    world.browser.lost("a")
    assert world.news() == [("leave", "10.0.0.2:7070")]


def test_what_cannot_be_resolved_or_makes_no_sense_is_not_told() -> None:
    world = World()
    world.browser.found("nobody")
    world.browser.lost("nobody")
    assert world.news() == []
    assert world.found("b", "") == []
