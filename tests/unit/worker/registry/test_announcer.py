"""A worker's side of a registry: join, renew, join again, leave; with a fake registry and no waiting."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from edgeflow._proto.edgeflow.v1 import registry_pb2 as pb
from edgeflow.errors import ConfigError
from edgeflow.worker.registry import announcer as module
from edgeflow.worker.registry.announcer import Announcer, reachable_address
from edgeflow.worker.registry.state import Member

PI = Member(name="pi4", address="pi4:7070", num_threads=4, memory_limit_bytes=1 << 30, version="1.2")


class Unreachable(grpc.RpcError):
    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.UNAVAILABLE

    def details(self) -> str:
        return "no route"

    def trailing_metadata(self) -> None:
        return None


class Registry:
    """Answers calls from a script: each entry is what comes of one call; at its end, the announcer stops."""

    def __init__(self, *script: Any) -> None:
        self.script = [*script]
        self.calls: list[tuple[str, Any]] = []
        self.waits: list[float] = []
        self.is_stopped = False

    # As a stub.

    def __getattr__(self, method: str) -> Any:
        def call(request: Any, timeout: float, metadata: Any) -> Any:
            self.calls.append((method, request))
            if method == "Leave":
                return pb.LeaveResponse()
            answer = self.script.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer

        return call

    # As the event that stops the thread.

    def is_set(self) -> bool:
        return self.is_stopped or not self.script

    def set(self) -> None:
        self.is_stopped = True

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)


class Channel:
    def close(self) -> None:
        pass


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Any:
    def run(*script: Any) -> Registry:
        registry = Registry(*script)
        monkeypatch.setattr(module, "open_channel", lambda *args: Channel())
        monkeypatch.setattr(module.registry_pb2_grpc, "RegistryStub", lambda channel: registry)
        monkeypatch.setattr(module.threading, "Event", lambda: registry)
        # The thread's work on this thread, once it is waited for.
        monkeypatch.setattr(module.threading, "Thread", Inline)
        announcer = Announcer("registry:7000", PI)
        announcer._thread.join()
        announcer.close()
        return registry

    return run


class Inline:
    def __init__(self, target: Any, **options: Any) -> None:
        self._target = target
        self._is_done = False

    def start(self) -> None:
        pass

    def join(self) -> None:
        if not self._is_done:
            self._is_done = True
            self._target()


def joined(member_id: str = "m1", interval_s: float = 2.0) -> pb.RegisterResponse:
    return pb.RegisterResponse(member_id=member_id, heartbeat_interval_s=interval_s)


def test_a_worker_joins_renews_as_often_as_it_is_told_and_leaves(run: Any) -> None:
    registry = run(joined(), pb.HeartbeatResponse(is_known=True), pb.HeartbeatResponse(is_known=True))
    assert [method for method, _ in registry.calls] == ["Register", "Heartbeat", "Heartbeat", "Leave"]
    request = registry.calls[0][1]
    assert (request.name, request.address, request.num_threads) == ("pi4", "pi4:7070", 4)
    assert (request.memory_limit_bytes, request.version) == (1 << 30, "1.2")
    assert {call.member_id for _, call in registry.calls[1:]} == {"m1"}
    assert registry.waits == [2.0, 2.0, 2.0]


def test_a_worker_that_the_registry_has_forgotten_joins_again(run: Any) -> None:
    registry = run(joined("m1"), pb.HeartbeatResponse(is_known=False), joined("m2"))
    assert [method for method, _ in registry.calls] == ["Register", "Heartbeat", "Register", "Leave"]
    assert registry.calls[-1][1].member_id == "m2"


def test_a_registry_that_is_not_there_is_tried_again_with_growing_waits(run: Any) -> None:
    registry = run(*[Unreachable()] * 8, joined(), pb.HeartbeatResponse(is_known=True))
    limits = [0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0, 10.0]
    assert all(limit / 2 <= wait <= limit for wait, limit in zip(registry.waits, limits, strict=False))
    assert registry.waits[8:] == [2.0, 2.0]


def test_a_worker_that_never_joined_has_nothing_to_leave(run: Any) -> None:
    assert [method for method, _ in run(Unreachable()).calls] == ["Register"]


@pytest.mark.parametrize(("told_s", "waited_s"), [(0.0, 0.05), (-5.0, 0.05), (1e9, 60.0)])
def test_an_interval_that_makes_no_sense_is_bounded(run: Any, told_s: float, waited_s: float) -> None:
    assert run(joined(interval_s=told_s)).waits == [waited_s]


def test_a_registry_that_is_no_address_is_refused() -> None:
    with pytest.raises(ConfigError):
        Announcer("nowhere", PI)


@pytest.mark.parametrize("address", ["pi4:7070", "192.168.1.20:7070", "[fe80::1]:7070", "127.0.0.1:1"])
def test_an_address_that_is_no_wildcard_is_what_others_reach(address: str) -> None:
    assert reachable_address(address, "registry:7000") == address


def test_a_wildcard_of_which_nothing_leads_to_the_registry() -> None:
    with pytest.raises(ConfigError, match=r"no way leads to nowhere:x: .*say --advertise HOST:PORT"):
        reachable_address("0.0.0.0:7070", "nowhere:x")
