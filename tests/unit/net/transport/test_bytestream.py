"""Byte streams over a connected pair of sockets, plain and with TLS."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from edgeflow.errors import WorkerUnreachableError
from edgeflow.net.security import Credentials
from edgeflow.net.transport.bytestream import PlainStream, TlsStream, handshake

WAIT_S = 10.0


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two connected sockets; of TCP, since streams set options of TCP."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        here = socket.create_connection(server.getsockname())
        there, _ = server.accept()
    with here, there:
        yield here, there


def views(*parts: bytes) -> list[memoryview]:
    return [memoryview(part) for part in parts]


def receive(stream: PlainStream, size: int) -> bytes:
    """Receive ``size`` bytes, or fewer if the stream ends."""
    data = memoryview(bytearray(size))
    have = 0
    while have < size and (count := stream.receive_into(data[have:])):
        have += count
    return bytes(data[:have])


def test_bytes_arrive_and_then_the_end(pair: tuple[socket.socket, socket.socket]) -> None:
    here, there = map(PlainStream, pair)
    buffers = views(b"head", b"", b"payload")
    assert here.seal(buffers) == buffers
    assert here.send_now(buffers) == 11
    here.finish()
    assert receive(there, 100) == b"headpayload"
    assert there.send_some(views(b"back")) == 4  # the other direction is still open
    assert receive(here, 4) == b"back"


def test_an_idle_stream_wakes_its_reader(pair: tuple[socket.socket, socket.socket]) -> None:
    here = PlainStream(pair[0])
    here.set_idle(0.001)
    with pytest.raises(BlockingIOError):
        receive(here, 1)


def test_a_full_system_takes_nothing_and_says_what_it_holds(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    here, there = map(PlainStream, pair)
    sent = 0
    while count := here.send_now(views(bytes(1 << 16))):
        sent += count
    assert 0 < here.num_unacknowledged <= sent
    assert receive(there, sent) == bytes(sent)


def test_cutting_wakes_a_reader(pair: tuple[socket.socket, socket.socket]) -> None:
    here = PlainStream(pair[0])
    with ThreadPoolExecutor(1) as pool:
        read = pool.submit(receive, here, 1)
        here.cut()
        assert read.result(WAIT_S) == b""
    here.cut()  # twice does no harm


@pytest.fixture(scope="module")
def contexts(certificates: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Of the client and of the server."""
    here = Credentials.load(certificates, "here")
    return here.ssl_context(server=False), here.ssl_context(server=True)


def shake(
    pair: tuple[socket.socket, socket.socket],
    client: ssl.SSLContext | None,
    server: ssl.SSLContext | None,
    *,
    name: str = "127.0.0.1",
) -> tuple[PlainStream, PlainStream]:
    deadline_s = time.monotonic() + WAIT_S
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(handshake, pair[1], server, server_name=None, deadline_s=deadline_s)
        try:
            mine = handshake(pair[0], client, server_name=name, deadline_s=deadline_s)
        except BaseException:
            pair[0].close()
            raise
        return mine, other.result(WAIT_S)


def test_tls_carries_bytes_that_the_wire_does_not_show(
    pair: tuple[socket.socket, socket.socket], contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    here, there = shake(pair, *contexts)
    assert isinstance(here, TlsStream) and isinstance(there, TlsStream)
    sealed = here.seal(views(b"head", b"", b"payload" * 1000))
    assert b"payload" not in b"".join(sealed)
    assert here.send_now(sealed) == sum(map(len, sealed))
    assert receive(there, 7004) == b"head" + b"payload" * 1000
    there.send_some(there.seal(views(b"back")))
    assert receive(here, 4) == b"back"
    here.finish()
    assert receive(there, 1) == b""


def test_without_a_context_nothing_is_encrypted(pair: tuple[socket.socket, socket.socket]) -> None:
    here, there = shake(pair, None, None)
    here.send_now(here.seal(views(b"plain")))
    assert type(here) is PlainStream and receive(there, 5) == b"plain"


def test_a_server_of_another_name_is_refused(
    pair: tuple[socket.socket, socket.socket], contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    with pytest.raises(WorkerUnreachableError, match="CERTIFICATE_VERIFY_FAILED"):
        shake(pair, *contexts, name="192.0.2.1")


def test_a_side_that_speaks_no_tls_is_refused(
    pair: tuple[socket.socket, socket.socket], contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    pair[0].sendall(b"GET / HTTP/1.1\r\n\r\n")
    with pytest.raises(WorkerUnreachableError, match="TLS handshake failed"):
        handshake(pair[1], contexts[1], server_name=None, deadline_s=time.monotonic() + WAIT_S)


def test_a_side_that_leaves_or_says_nothing_ends_the_handshake(
    pair: tuple[socket.socket, socket.socket], contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    with pytest.raises(TimeoutError):
        handshake(pair[1], contexts[1], server_name=None, deadline_s=time.monotonic())
    pair[0].close()
    with pytest.raises(ConnectionResetError, match="ended the TLS handshake"):
        handshake(pair[1], contexts[1], server_name=None, deadline_s=time.monotonic() + WAIT_S)
