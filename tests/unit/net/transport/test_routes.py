"""Which way frames go: chosen for all, then tried by each connection."""

from __future__ import annotations

from typing import Any, cast

import pytest

from edgeflow.errors import ConfigError, StalePlanError, WorkerUnreachableError
from edgeflow.net.transport.base import Handler, Hello, Transport
from edgeflow.net.transport.routes import (
    Route,
    RoutedTransport,
    check_address,
    choose_routes,
    format_routes,
    parse_routes,
)

ADDRESSES = {0: "a:7000", 1: "[::1]:7000"}
HELLO = Hello(epoch=1, rank=0)
NOBODY = cast(Handler, None)


def test_routes_are_read_as_they_are_written() -> None:
    routes = (Route("tcp", "[::1]:9"), Route("grpc", "b:8"))
    assert parse_routes(format_routes(routes)) == routes
    assert parse_routes("b:8") == (Route("grpc", "b:8"),)


def test_tcp_first_where_all_offer_it() -> None:
    both = {0: {"tcp": 9}, 1: {"tcp": 10}}
    assert choose_routes(ADDRESSES, both, "auto") == {
        0: "tcp://a:9,grpc://a:7000",
        1: "tcp://[::1]:10,grpc://[::1]:7000",
    }
    assert choose_routes(ADDRESSES, both, "tcp")[0] == "tcp://a:9"
    assert choose_routes(ADDRESSES, both, "grpc")[0] == "grpc://a:7000"


def test_grpc_for_all_where_one_offers_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    one = {0: {"tcp": 9}, 1: {}}
    with caplog.at_level("INFO"):
        assert choose_routes(ADDRESSES, one, "auto") == {0: "grpc://a:7000", 1: "grpc://[::1]:7000"}
    assert "ranks [1] offer no tcp" in str(vars(caplog.records[-1]))
    with pytest.raises(ConfigError, match=r"ranks \[1\]"):
        choose_routes(ADDRESSES, one, "tcp")
    with pytest.raises(ConfigError, match="pigeon"):
        choose_routes(ADDRESSES, one, "pigeon")


class Fake:
    def __init__(self, name: str, error: Exception | None = None) -> None:
        self.name = name
        self.error = error
        self.dialled: list[tuple[str, float]] = []

    def dial(self, address: str, hello: Hello, handler: Handler, *, timeout_s: float) -> Any:
        self.dialled.append((address, timeout_s))
        if self.error is not None:
            raise self.error
        return self.name

    def close(self) -> None:
        """Nothing is open."""


def dial(*fakes: Fake, address: str = "tcp://a:9,grpc://a:7000") -> Any:
    transport = RoutedTransport([cast(Transport, fake) for fake in fakes])
    return transport.dial(address, HELLO, NOBODY, timeout_s=10.0)


def test_the_next_way_is_tried_when_nobody_is_reached(caplog: pytest.LogCaptureFixture) -> None:
    tcp, grpc = Fake("tcp", WorkerUnreachableError("a:9: refused")), Fake("grpc")
    assert dial(tcp, grpc) == "grpc"
    assert tcp.dialled == [("a:9", 2.0)]
    [(address, left_s)] = grpc.dialled
    assert address == "a:7000" and 9.0 < left_s <= 10.0
    assert "a:9: refused" in str(vars(caplog.records[-1]))


def test_a_refusal_is_an_answer() -> None:
    grpc = Fake("grpc")
    with pytest.raises(StalePlanError):
        dial(Fake("tcp", StalePlanError("gone")), grpc)
    assert grpc.dialled == []


def test_the_only_way_has_all_the_time() -> None:
    tcp = Fake("tcp")
    assert dial(tcp, address="tcp://a:9") == "tcp"
    assert tcp.dialled[0][1] > 9.0
    with pytest.raises(ConfigError, match="no route"):
        dial(tcp, address="a:7000")


@pytest.mark.parametrize(
    "address",
    ["pi4:7000", "[fe80::1%eth0]:1", "tcp://10.0.0.2:40123,grpc://10.0.0.2:7000", "grpc://pi4.lan:65535"],
)
def test_addresses_of_peers_may_be_dialled(address: str) -> None:
    check_address(address)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "pi4",
        "pi4:0",
        "pi4:65536",
        "unix:docker.sock",
        "pi4:7000/x",
        "udp://pi4:7000",
        "tcp://pi4:1,tcp://pi4:2",
        "tcp://pi4:1,",
        ",".join(["a:1"] * 300),
    ],
)
def test_other_addresses_are_not_dialled(address: str) -> None:
    with pytest.raises(ConfigError, match="is not the HOST:PORT of a peer"):
        check_address(address)
