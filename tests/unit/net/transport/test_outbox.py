"""The outbox: what goes out at once, what is left to the thread, and in which order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from edgeflow.errors import WorkerUnreachableError
from edgeflow.net.stream import FrameReader
from edgeflow.net.transport.outbox import Outbox
from edgeflow.net.wire import Frame, Kind

WAIT_S = 10.0


class FakeStream:
    """Takes as many bytes at once as it is told to, and the rest from the thread."""

    chunk_bytes = 1 << 62

    def __init__(self, room: int = 1 << 62) -> None:
        self.room = room
        self.sent = bytearray()
        self.num_unacknowledged = 0
        self.num_by_thread = 0
        self.is_finished = False
        self.is_broken = False

    def seal(self, buffers: Sequence[memoryview]) -> list[memoryview]:
        assert sum(map(len, buffers[1:])) <= self.chunk_bytes
        return list(buffers)

    def send_now(self, buffers: Sequence[memoryview]) -> int:
        return self._send(buffers, self.room)

    def send_some(self, buffers: Sequence[memoryview]) -> int:
        count = self._send(buffers, 100)
        self.num_by_thread += count
        return count

    def _send(self, buffers: Sequence[memoryview], most: int) -> int:
        if self.is_broken:
            raise OSError("broken")
        data = b"".join(buffers)[:most]
        self.sent += data
        return len(data)

    def finish(self) -> None:
        self.is_finished = True


def outbox_of(stream: Any) -> Outbox:
    return Outbox(stream, "pi4:7000")


def frame(tag: int, size: int = 10) -> Frame:
    array = np.full(size, tag, np.uint8)
    return Frame(kind=Kind.TENSOR, epoch=1, source=0, request_id=1, tag=tag, array=array)


def tags(stream: FakeStream) -> list[int]:
    """Tags of the frames that were sent; their payloads are checked on the way."""
    reader, rest, found = FrameReader(), memoryview(bytes(stream.sent)), []
    while rest:
        target = reader.target
        count = min(len(target), len(rest))
        target[:count] = rest[:count]
        for item in reader.filled(count):
            assert (item.array == item.tag).all()
            found.append(item.tag)
        rest = rest[count:]
    assert not reader.is_mid_frame
    return found


def join(outbox: Outbox) -> None:
    assert outbox._thread is not None
    outbox._thread.join(WAIT_S)
    assert not outbox._thread.is_alive()


def test_frames_wait_until_the_outbox_is_opened() -> None:
    stream = FakeStream()
    outbox = outbox_of(stream)
    outbox.put(frame(1))
    outbox.put(frame(2))
    assert not stream.sent
    outbox.open(frame(0))
    outbox.put(frame(3))
    assert tags(stream) == [0, 1, 2, 3]


def test_a_system_that_takes_everything_needs_no_thread() -> None:
    stream = FakeStream()
    outbox = outbox_of(stream)
    outbox.open(frame(0))
    outbox.close(frame(1))
    assert outbox._thread is None
    assert tags(stream) == [0, 1] and stream.is_finished


def test_the_thread_sends_the_rest_in_order() -> None:
    stream = FakeStream(room=3)
    outbox = outbox_of(stream)
    outbox.open(frame(0, 1000))
    for tag in (1, 2, 3):
        outbox.put(frame(tag, 500))
    outbox.close(frame(4))
    join(outbox)
    assert tags(stream) == [0, 1, 2, 3, 4]
    assert stream.is_finished and stream.num_by_thread > 2000
    assert outbox.num_acknowledged == len(stream.sent)


def test_a_payload_above_the_chunk_size_is_sealed_in_parts() -> None:
    stream = FakeStream()
    stream.chunk_bytes = 64
    outbox = outbox_of(stream)
    outbox.open(frame(0))
    outbox.put(frame(1, 1000))  # FakeStream checks the parts
    outbox.close(None)
    join(outbox)
    assert tags(stream) == [0, 1]


def test_a_closed_outbox_takes_nothing() -> None:
    stream = FakeStream()
    outbox = outbox_of(stream)
    outbox.open(frame(0))
    outbox.close(None)
    outbox.close(frame(9))
    with pytest.raises(WorkerUnreachableError, match="connection with pi4:7000 has ended"):
        outbox.put(frame(1))
    assert tags(stream) == [0]


def test_a_broken_connection_is_told_to_the_sender() -> None:
    stream = FakeStream()
    outbox = outbox_of(stream)
    outbox.open(frame(0))
    stream.is_broken = True
    for _ in range(2):
        with pytest.raises(WorkerUnreachableError, match="has ended"):
            outbox.put(frame(1))


def test_what_is_acknowledged_is_what_the_system_no_longer_holds() -> None:
    stream = FakeStream()
    outbox = outbox_of(stream)
    outbox.open(frame(0))
    stream.num_unacknowledged = 7
    assert outbox.num_acknowledged == len(stream.sent) - 7
