"""Workers join a registry over gRPC, and by mDNS on the loopback interface."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from edgeflow._proto.edgeflow.v1 import registry_pb2 as pb
from edgeflow._proto.edgeflow.v1 import registry_pb2_grpc
from edgeflow.errors import ConfigError
from edgeflow.net.security import Access
from edgeflow.worker.registry import Announcer, Member, RegistryServer
from edgeflow.worker.registry.announcer import reachable_address

WAIT_S = 10.0
PI = Member(name="pi4", address="127.0.0.1:7070", num_threads=4, memory_limit_bytes=10**9, version="1")
TOKEN = "a-token-of-this-cluster"


class Heard:
    def __init__(self) -> None:
        self.events: queue.SimpleQueue[tuple[str, Member]] = queue.SimpleQueue()

    def joined(self, address: str, member: Member) -> None:
        assert address == member.address
        self.events.put(("joined", member))

    def left(self, address: str, member: Member) -> None:
        self.events.put(("left", member))

    def next(self) -> tuple[str, Member]:
        return self.events.get(timeout=WAIT_S)


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def registry(heard: Heard) -> Iterator[RegistryServer]:
    server = RegistryServer(
        "127.0.0.1:0",
        access=Access(token=TOKEN),
        on_join=heard.joined,
        on_leave=heard.left,
        heartbeat_s=0.1,
    )
    yield server
    server.stop()


def test_a_worker_joins_is_heard_of_and_leaves(registry: RegistryServer, heard: Heard) -> None:
    announcer = Announcer(registry.address, PI, access=Access(token=TOKEN))
    assert heard.next() == ("joined", PI)
    time.sleep(1.0)  # longer than it lives without heartbeats
    assert heard.events.empty() and registry.members == (PI,)
    announcer.close()
    assert heard.next() == ("left", PI)


def test_a_worker_that_says_nothing_more_has_left(registry: RegistryServer, heard: Heard) -> None:
    with grpc.insecure_channel(registry.address) as channel:
        stub = registry_pb2_grpc.RegistryStub(channel)
        request = pb.RegisterRequest(name="pi4", address="pi4:7070")
        stub.Register(request, timeout=WAIT_S, metadata=Access(token=TOKEN).metadata)
    assert heard.next()[0] == "joined"
    assert heard.next()[0] == "left"


def test_a_worker_joins_again_after_the_registry_was_gone(heard: Heard) -> None:
    first = RegistryServer("127.0.0.1:0", on_join=heard.joined, heartbeat_s=0.1)
    announcer = Announcer(first.address, PI)
    assert heard.next() == ("joined", PI)
    first.stop()
    second = RegistryServer(first.address, on_join=heard.joined, heartbeat_s=0.1)
    try:
        assert heard.next() == ("joined", PI)
    finally:
        announcer.close()
        second.stop()


@pytest.mark.parametrize("token", [None, "another-token-altogether"])
def test_a_stranger_does_not_join(registry: RegistryServer, heard: Heard, token: str | None) -> None:
    announcer = Announcer(registry.address, PI, access=Access(token=token))
    time.sleep(0.5)
    announcer.close()
    assert not announcer.is_member and registry.members == () and heard.events.empty()


@pytest.mark.parametrize("method", ["Heartbeat", "Leave"])
def test_nobody_is_spoken_for_without_the_token(registry: RegistryServer, method: str) -> None:
    with grpc.insecure_channel(registry.address) as channel, pytest.raises(grpc.RpcError) as caught:
        call = getattr(registry_pb2_grpc.RegistryStub(channel), method)
        call(getattr(pb, f"{method}Request")(member_id="x"), timeout=WAIT_S)
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("", "pi4:7070"),
        ("../pi4", "pi4:7070"),
        ("pi 4", "pi4:7070"),
        ("x" * 64, "pi4:7070"),
        ("pi4\n", "pi4:7070"),
        ("pi4", ""),
        ("pi4", "pi4"),
        ("pi4", "pi4:0"),
        ("pi4", "pi4:70707"),
        ("pi4", "unix:/var/run/docker.sock"),
        ("pi4", "unix:///etc/passwd:1"),
        ("pi4", "dns://8.8.8.8/x:1"),
        ("pi4", "http://pi4:80"),
        ("pi4", "pi4:7070\n"),
        ("pi4", "pi4:٣"),
    ],
)
def test_what_makes_no_sense_does_not_join(registry: RegistryServer, name: str, address: str) -> None:
    with grpc.insecure_channel(registry.address) as channel, pytest.raises(grpc.RpcError) as caught:
        registry_pb2_grpc.RegistryStub(channel).Register(
            pb.RegisterRequest(name=name, address=address),
            timeout=WAIT_S,
            metadata=Access(token=TOKEN).metadata,
        )
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert registry.members == ()


def test_a_listener_that_raises_costs_nobody_the_membership(caplog: pytest.LogCaptureFixture) -> None:
    def fail(address: str, member: Member) -> None:
        raise RuntimeError("a mistake of the listener's")

    server = RegistryServer("127.0.0.1:0", on_join=fail)
    try:
        server.register(PI)
        assert server.members == (PI,)
    finally:
        server.stop()
    assert "registry.listener_failed" in caplog.text


def test_a_registry_that_others_can_reach_needs_certificates() -> None:
    with pytest.raises(ConfigError, match="--insecure"):
        RegistryServer("0.0.0.0:0", access=Access(token=TOKEN))


def test_joining_over_tls(access: Access, heard: Heard) -> None:
    server = RegistryServer("127.0.0.1:0", access=access, on_join=heard.joined)
    announcer = Announcer(server.address, PI, access=access)
    try:
        assert heard.next() == ("joined", PI)
    finally:
        announcer.close()
        server.stop()


def test_a_wildcard_becomes_the_address_that_leads_there() -> None:
    assert reachable_address("0.0.0.0:7070", "127.0.0.1:1") == "127.0.0.1:7070"
    assert reachable_address("127.0.0.1:7070", "192.0.2.1:1") == "127.0.0.1:7070"
    with pytest.raises(ConfigError, match="--advertise"):
        reachable_address("0.0.0.0:7070", "no such host:1")


def test_mdns_on_loopback(heard: Heard) -> None:
    pytest.importorskip("zeroconf")
    from edgeflow.worker.registry.mdns import MdnsAnnouncer, MdnsBrowser

    before = set(threading.enumerate())
    with MdnsBrowser(on_join=heard.joined, on_leave=heard.left, interfaces=["127.0.0.1"]):
        announcer = MdnsAnnouncer("pi4", "127.0.0.1:7070", interfaces=["127.0.0.1"])
        expected: Any = Member(name="pi4", address="127.0.0.1:7070")
        assert heard.next() == ("joined", expected)
        announcer.close()
        assert heard.next() == ("left", expected)
    assert set(threading.enumerate()) <= before
