"""What every transport promises, checked on each: see `edgeflow.net.transport.base`."""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import grpc
import numpy as np
import pytest

from edgeflow.errors import (
    CodecError,
    ConfigError,
    EdgeflowError,
    StalePlanError,
    WorkerOverloadedError,
    WorkerUnreachableError,
)
from edgeflow.net.security import Access
from edgeflow.net.transport.base import Connection, Handler, Hello, Listener, Transport
from edgeflow.net.transport.grpc_ import GrpcTransport, bind_server
from edgeflow.net.transport.memory import MemoryNetwork, MemoryTransport
from edgeflow.net.transport.tcp import TcpTransport
from edgeflow.net.wire import CHUNK_BYTES, Frame, Header, Kind
from tests.waiting import in_threads

WAIT_S = 10.0
HELLO = Hello(epoch=5, rank=0)


def memory_transports(access: Access) -> Callable[..., Transport]:
    network = MemoryNetwork()
    return lambda **options: MemoryTransport(network, **options)


#: By name: what makes the transports of one test, some under mutual TLS.
TRANSPORTS: dict[str, Callable[[Access], Callable[..., Transport]]] = {
    "memory": memory_transports,
    "grpc": lambda access: GrpcTransport,
    "grpc-tls": lambda access: partial(GrpcTransport, access.credentials),
    "tcp": lambda access: TcpTransport,
    "tcp-tls": lambda access: partial(TcpTransport, access.credentials),
}


class Recorder:
    """A handler that writes down what it is told."""

    def __init__(self, admit: Callable[[Header], None] | None = None) -> None:
        self.frames: queue.SimpleQueue[Frame] = queue.SimpleQueue()
        self.lost: queue.SimpleQueue[EdgeflowError | None] = queue.SimpleQueue()
        self.admit = admit or (lambda header: None)

    def on_frame(self, frame: Frame) -> None:
        self.frames.put(frame)

    def on_lost(self, error: EdgeflowError | None) -> None:
        self.lost.put(error)


class Pair:
    """Two ends of one connection, and everything that holds them."""

    def __init__(self, make: Callable[..., Transport]) -> None:
        self.make = make
        self.dialler: Transport = make()
        self.listeners: list[Listener] = []
        self.here, self.there = Recorder(), Recorder()
        self.accepted: queue.SimpleQueue[Connection] = queue.SimpleQueue()

    def accept(self, hello: Hello, connection: Connection) -> Handler:
        assert hello == HELLO
        self.accepted.put(connection)
        return self.there

    def listen(self, accept: Any = None, **options: int) -> str:
        listener = self.make(**options).listen("", accept or self.accept)
        self.listeners.append(listener)
        return listener.address

    def dial(self, address: str) -> Connection:
        return self.dialler.dial(address, HELLO, self.here, timeout_s=WAIT_S)

    def connect(self, **options: int) -> tuple[Connection, Connection]:
        mine = self.dial(self.listen(**options))
        return mine, self.accepted.get(timeout=WAIT_S)

    def close(self) -> None:
        self.dialler.close()
        for listener in self.listeners:
            listener.close()


@pytest.fixture(params=TRANSPORTS)
def pair(request: pytest.FixtureRequest, access: Access) -> Iterator[Pair]:
    pair = Pair(TRANSPORTS[request.param](access))
    yield pair
    pair.close()


def tensor(tag: int, size: int = 3) -> Frame:
    array = np.full(size, tag, np.float32)
    return Frame(kind=Kind.TENSOR, epoch=5, source=0, request_id=1, tag=tag, array=array)


def test_frames_go_both_ways_in_order(pair: Pair) -> None:
    mine, theirs = pair.connect()
    for tag in range(50):
        mine.send(tensor(tag))
        theirs.send(tensor(100 + tag))

    assert [pair.there.frames.get(timeout=WAIT_S).tag for _ in range(50)] == list(range(50))
    assert [pair.here.frames.get(timeout=WAIT_S).tag for _ in range(50)] == list(range(100, 150))


@pytest.mark.parametrize(
    "num_bytes", [0, 4, CHUNK_BYTES - 4, CHUNK_BYTES, CHUNK_BYTES + 4, 9 * CHUNK_BYTES + 12]
)
def test_any_size_arrives_unchanged(pair: Pair, num_bytes: int, rng: np.random.Generator) -> None:
    """Both ways at once: what encrypts has one state for both."""
    mine, theirs = pair.connect()
    array = rng.integers(0, 2**31, num_bytes // 4, dtype=np.int32)
    for side in (mine, theirs):
        side.send(Frame(kind=Kind.TENSOR, epoch=5, source=0, request_id=2**63, tag=8, array=array))
        side.send(tensor(9))

    for end in (pair.there, pair.here):
        frame = end.frames.get(timeout=WAIT_S)
        assert np.array_equal(frame.array, array) and frame.array.dtype == array.dtype
        assert (frame.epoch, frame.source, frame.request_id, frame.tag) == (5, 0, 2**63, 8)
        assert end.frames.get(timeout=WAIT_S).tag == 9


def test_the_array_that_arrives_belongs_to_the_receiver(pair: Pair) -> None:
    mine, _ = pair.connect()
    sent = tensor(1)
    mine.send(sent)

    received = pair.there.frames.get(timeout=WAIT_S).array
    received += 1
    assert np.all(sent.array == 1) and np.all(received == 2)


def test_send_does_not_wait_for_a_receiver_that_is_busy(pair: Pair) -> None:
    blocked = threading.Event()

    def wait(frame: Frame) -> None:
        blocked.wait(WAIT_S)

    pair.there.on_frame = wait  # type: ignore[method-assign]
    mine, _ = pair.connect()

    started_s = time.monotonic()
    for tag in range(8):
        mine.send(tensor(tag, size=1 << 20))
    elapsed_s = time.monotonic() - started_s
    blocked.set()
    assert elapsed_s < WAIT_S / 2


def test_many_threads_may_send(pair: Pair) -> None:
    mine, _ = pair.connect()
    size = CHUNK_BYTES // 2  # two messages a frame: they must not mix

    def send(tag: int) -> None:
        for _ in range(5):
            mine.send(tensor(tag, size))

    in_threads(send, range(4))
    frames = [pair.there.frames.get(timeout=WAIT_S) for _ in range(20)]
    assert sorted(frame.tag for frame in frames) == sorted(list(range(4)) * 5)
    assert all(np.all(frame.array == frame.tag) for frame in frames)


def test_close_lets_out_what_was_queued(pair: Pair) -> None:
    mine, _ = pair.connect()
    for tag in range(5):
        mine.send(tensor(tag, CHUNK_BYTES))
    mine.close()
    mine.close()

    assert [pair.there.frames.get(timeout=WAIT_S).tag for _ in range(5)] == list(range(5))
    assert pair.there.lost.get(timeout=WAIT_S) is None
    with pytest.raises(WorkerUnreachableError, match="has ended"):
        mine.send(tensor(9))


def test_the_accepting_side_may_close(pair: Pair) -> None:
    _, theirs = pair.connect()
    theirs.send(tensor(1))
    theirs.close()

    assert pair.here.frames.get(timeout=WAIT_S).tag == 1
    assert pair.here.lost.get(timeout=WAIT_S) is None


def test_own_close_is_not_a_loss(pair: Pair) -> None:
    mine, _ = pair.connect()
    mine.close()
    pair.there.lost.get(timeout=WAIT_S)
    pair.dialler.close()
    assert pair.here.lost.empty()


def test_close_from_within_the_handler(pair: Pair) -> None:
    mine, theirs = pair.connect()
    pair.there.on_frame = lambda frame: theirs.close()  # type: ignore[method-assign]
    mine.send(tensor(1))
    assert pair.here.lost.get(timeout=WAIT_S) is None


def test_sending_after_the_other_side_has_gone(pair: Pair) -> None:
    mine, theirs = pair.connect()
    theirs.close()
    pair.here.lost.get(timeout=WAIT_S)
    with pytest.raises(WorkerUnreachableError):
        mine.send(tensor(1))


def test_a_header_that_is_not_admitted_ends_the_connection(pair: Pair) -> None:
    def admit(header: Header) -> None:
        if header.tag != 1:
            raise CodecError(f"nobody waits for tag {header.tag}")

    pair.there.admit = admit
    mine, _ = pair.connect()
    mine.send(tensor(1))
    mine.send(tensor(2))

    assert pair.there.frames.get(timeout=WAIT_S).tag == 1
    error = pair.there.lost.get(timeout=WAIT_S)
    assert isinstance(error, CodecError) and "tag 2" in str(error)
    pair.here.lost.get(timeout=WAIT_S)
    assert pair.there.frames.empty()


def test_a_frame_above_the_limit_ends_the_connection(pair: Pair) -> None:
    mine, _ = pair.connect(max_payload_bytes=100)
    mine.send(tensor(1, size=26))
    error = pair.there.lost.get(timeout=WAIT_S)
    assert isinstance(error, CodecError) and "104 bytes, the limit is 100" in str(error)


@pytest.mark.parametrize("error", [StalePlanError("epoch 5 is gone"), WorkerOverloadedError("full")])
def test_a_refused_hello_raises_the_reason_at_the_dialling_side(pair: Pair, error: EdgeflowError) -> None:
    def refuse(hello: Hello, connection: Connection) -> Handler:
        raise error

    address = pair.listen(refuse)
    with pytest.raises(type(error), match=str(error)):
        pair.dial(address)


def test_listening_twice_at_one_address(pair: Pair) -> None:
    address = pair.listen()
    with pytest.raises(ConfigError, match=address):
        pair.make().listen(address, pair.accept)


def test_a_listener_that_closes_ends_its_connections(pair: Pair) -> None:
    pair.connect()
    pair.listeners.pop().close()
    pair.here.lost.get(timeout=WAIT_S)


def test_nobody_listens_at_a_memory_address() -> None:
    transport = MemoryTransport(MemoryNetwork())
    with pytest.raises(WorkerUnreachableError, match="memory:7"):
        transport.dial("memory:7", HELLO, Recorder(), timeout_s=0.1)


def test_nobody_listens_at_a_port() -> None:
    with socket.socket() as placeholder:
        placeholder.bind(("127.0.0.1", 0))
        port = placeholder.getsockname()[1]
    started_s = time.monotonic()
    with pytest.raises(WorkerUnreachableError, match=rf"127\.0\.0\.1:{port}.* 0\.3 s"):
        GrpcTransport().dial(f"127.0.0.1:{port}", HELLO, Recorder(), timeout_s=0.3)
    assert time.monotonic() - started_s < 3.0


def test_a_port_that_takes_connections_and_says_nothing() -> None:
    """A hung process: the socket accepts, nobody reads."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(WorkerUnreachableError, match=r"no answer in 0\.3 s"):
            GrpcTransport().dial(f"127.0.0.1:{port}", HELLO, Recorder(), timeout_s=0.3)


@pytest.mark.parametrize("bind", ["", "localhost", ":80", "host:port", "127.0.0.1:99999", "192.0.2.1:80"])
def test_bad_bind_addresses(bind: str) -> None:
    server = grpc.server(ThreadPoolExecutor(1))
    with pytest.raises(ConfigError, match="address"):
        bind_server(server, bind)
