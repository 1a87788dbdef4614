"""The memory transport under virtual time: connections, refusals, and their ends."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from edgeflow.errors import AccessDeniedError, CodecError, ConfigError, EdgeflowError, WorkerUnreachableError
from edgeflow.net.transport.base import Connection, Hello
from edgeflow.net.transport.memory import MemoryNetwork, MemoryTransport
from edgeflow.net.wire import Frame, Header, Kind
from edgeflow.testing.virtual import VirtualThreads

HELLO = Hello(epoch=5, rank=-1, proof=b"proof")


class Recorder:
    """Keeps what it is told; refuses payloads above a limit."""

    def __init__(self, limit_bytes: int = 1000) -> None:
        self.frames: list[Frame] = []
        self.lost: list[EdgeflowError | None] = []
        self._limit_bytes = limit_bytes

    def admit(self, header: Header) -> None:
        if header.num_bytes > self._limit_bytes:
            raise CodecError(f"{header.num_bytes} bytes are too many")

    def on_frame(self, frame: Frame) -> None:
        self.frames.append(frame)

    def on_lost(self, error: EdgeflowError | None) -> None:
        self.lost.append(error)


class Pair:
    """A listener and a connection to it."""

    def __init__(self) -> None:
        self.threads = VirtualThreads()
        self.transport = MemoryTransport(MemoryNetwork(self.threads))
        self.here, self.there = Recorder(), Recorder()
        self.hellos: list[Hello] = []
        self.accepted: list[Connection] = []
        self.listener = self.transport.listen("", self._accept)
        self.connection = self.transport.dial(self.listener.address, HELLO, self.here, timeout_s=1.0)

    def _accept(self, hello: Hello, connection: Connection) -> Recorder:
        self.hellos.append(hello)
        self.accepted.append(connection)
        return self.there

    def settle(self) -> None:
        """Let the other threads run until all of them wait."""
        self.threads.sleep(1.0)


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = Pair()
    yield made
    made.transport.close()
    made.listener.close()


def frame(tag: int, size: int = 4) -> Frame:
    array = np.full(size, tag, np.uint8)
    return Frame(kind=Kind.TENSOR, epoch=5, source=-1, request_id=1, tag=tag, array=array)


def test_frames_go_both_ways_in_order_as_copies(pair: Pair) -> None:
    sent = [frame(tag) for tag in range(3)]
    for item in sent:
        pair.connection.send(item)
    pair.accepted[0].send(frame(9))
    pair.settle()
    assert pair.hellos == [HELLO]
    assert [item.tag for item in pair.there.frames] == [0, 1, 2]
    assert [item.tag for item in pair.here.frames] == [9]
    for before, after in zip(sent, pair.there.frames, strict=True):
        assert np.array_equal(before.array, after.array)
        assert not np.shares_memory(before.array, after.array)


def test_closing_sends_what_is_queued_and_tells_the_other_side(pair: Pair) -> None:
    pair.connection.send(frame(1))
    pair.connection.close()
    pair.connection.close()
    pair.settle()
    assert [item.tag for item in pair.there.frames] == [1]
    assert pair.there.lost == [None] and pair.here.lost == []
    for ended in (pair.connection, pair.accepted[0]):
        with pytest.raises(WorkerUnreachableError, match="has ended"):
            ended.send(frame(2))


def test_a_frame_that_is_not_admitted_ends_the_connection(pair: Pair) -> None:
    pair.connection.send(frame(1, size=1001))
    pair.settle()
    assert pair.there.frames == []
    (error,) = pair.there.lost
    assert isinstance(error, CodecError) and str(error) == "1001 bytes are too many"
    assert pair.here.lost == [None]


def test_a_refusal_is_raised_by_dial(pair: Pair) -> None:
    def refuse(hello: Hello, connection: Connection) -> Recorder:
        raise AccessDeniedError("no proof")

    listener = pair.transport.listen("", refuse)
    with pytest.raises(AccessDeniedError, match="no proof"):
        pair.transport.dial(listener.address, HELLO, pair.here, timeout_s=1.0)
    listener.close()


def test_addresses_are_used_once_and_freed(pair: Pair) -> None:
    address = pair.listener.address
    with pytest.raises(ConfigError, match="is in use"):
        pair.transport.listen(address, lambda hello, connection: pair.there)
    pair.listener.close()
    pair.settle()
    assert pair.here.lost == [None]
    with pytest.raises(WorkerUnreachableError, match=f"{address} cannot be reached"):
        pair.transport.dial(address, HELLO, pair.here, timeout_s=1.0)
