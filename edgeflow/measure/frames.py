"""Measure the processor cost of frames and copies on this machine."""

from __future__ import annotations

import queue
import statistics
import time
from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np

from edgeflow.cluster.profile import MessageCost
from edgeflow.errors import EdgeflowError
from edgeflow.net.transport.base import Connection, Handler, Hello, Transport
from edgeflow.net.transport.tcp import TcpTransport
from edgeflow.net.wire import Frame, Header, Kind
from edgeflow.rank.pages import PagePool

#: Payload size and number of frames.
_SIZES: Final = ((1 << 10, 150), (1 << 18, 40), (1 << 21, 12))
_TIMEOUT_S: Final = 20.0
#: Bytes read between frames: more than the private caches of a core, as a layer's weights are.
_DISPLACING_BYTES: Final = 16 << 20
#: Small, within caches, beyond them.
_COPY_SIZES: Final = (1 << 10, 1 << 18, 96 << 20)


class CopyCost(NamedTuple):
    """Seconds of a copy.

    Attributes:
        call_s: Per call.
        s_per_byte: Per byte read and per byte written, of buffers that caches hold.
        stream_s_per_byte: The same, of buffers that they do not hold.
    """

    call_s: float
    s_per_byte: float
    stream_s_per_byte: float


def measure_frames(transport: Transport | None = None) -> MessageCost:
    """Send frames to ourselves over the loopback interface, one at a time.

    The processor time of both sides, system calls included, is measured, and half of it assigned to each.
    Before each frame other data displaces the caches, as kernels do in a request: a frame right after
    another costs less than half.

    Args:
        transport: Transport of the frames; by default tcp, as between workers that reach each other's ports.

    Raises:
        EdgeflowError: If the loopback interface cannot be used.
    """
    hello = Hello(epoch=1, rank=0)
    inbox = _Inbox()
    transport = transport or TcpTransport(allocate=PagePool().empty)
    listener = transport.listen("127.0.0.1:0", lambda hello, connection: inbox)
    try:
        connection = transport.dial(listener.address, hello, _Inbox(), timeout_s=_TIMEOUT_S)
        seconds = [_frame_s(connection, inbox, size, count) for size, count in _SIZES]
        connection.close()
    finally:
        transport.close()
        listener.close()
    # Linear in the size: the small one gives the frame, the large one the bytes.
    (small, _), *_, (large, _) = _SIZES
    per_byte = max(0.0, (seconds[-1] - seconds[0]) / (large - small))
    per_frame = max(1e-6, seconds[0] - small * per_byte)
    return MessageCost(
        send_s=per_frame / 2,
        receive_s=per_frame / 2,
        send_s_per_byte=per_byte / 2,
        receive_s_per_byte=per_byte / 2,
        pack_s_per_byte=_pack_s_per_byte(),
    )


class _Inbox:
    """A handler that keeps what arrives."""

    def __init__(self) -> None:
        self.frames: queue.SimpleQueue[Frame] = queue.SimpleQueue()

    def admit(self, header: Header) -> None:
        """Everything is welcome: the frames are our own."""

    def on_frame(self, frame: Frame) -> None:
        self.frames.put(frame)

    def on_lost(self, error: EdgeflowError | None) -> None:
        """The end of the measurement, or a time-out that the reader runs into."""


def _frame_s(connection: Connection, inbox: _Inbox, size: int, count: int) -> float:
    """Processor seconds of one frame, both sides together."""
    array = np.zeros(size, np.uint8)
    displace = displacer()
    seconds = []
    for number in range(count + 2):
        displace()
        start = time.process_time()
        connection.send(Frame(kind=Kind.TENSOR, epoch=1, source=0, request_id=1, tag=number, array=array))
        inbox.frames.get(timeout=_TIMEOUT_S)
        seconds.append(time.process_time() - start)
    return statistics.median(seconds[2:])  # the first ones do not count


def displacer() -> Callable[[], object]:
    """Return a function that displaces the caches, as kernels do between the frames of a request."""
    return np.ones(_DISPLACING_BYTES, np.uint8).max


def measure_copies() -> CopyCost:
    """Put a buffer together out of two parts, as a worker does."""
    small_s, cached_s, streamed_s = (_copy_s(size) for size in _COPY_SIZES)
    small, cached, streamed = _COPY_SIZES
    return CopyCost(
        call_s=small_s,
        s_per_byte=max(1e-13, (cached_s - small_s) / (2 * (cached - small))),
        stream_s_per_byte=max(1e-13, (streamed_s - small_s) / (2 * (streamed - small))),
    )


def _copy_s(size: int) -> float:
    parts = [np.ones(size // 2, np.uint8) for _ in range(2)]
    whole = np.empty(size, np.uint8)
    return _median_s(lambda: np.concatenate(parts, out=whole))


def _pack_s_per_byte() -> float:
    """A strided region of 4 MiB made contiguous: columns of a feature map."""
    whole = np.zeros((256, 64, 128), np.float32)
    view = whole[:, :, 32:96]
    return _median_s(lambda: np.ascontiguousarray(view)) / view.nbytes


def _median_s(call: Callable[[], object], *, repeats: int = 15) -> float:
    call()
    seconds = []
    for _ in range(repeats):
        start = time.thread_time()
        call()
        seconds.append(time.thread_time() - start)
    return statistics.median(seconds)


_: type[Handler] = _Inbox  # checked by the type checker
