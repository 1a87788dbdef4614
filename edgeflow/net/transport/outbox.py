"""Send frames on one connection: at once if the system's buffer has room, else from a sending thread."""

from __future__ import annotations

import contextlib
import threading
from collections import deque

from edgeflow.errors import WorkerUnreachableError
from edgeflow.net.transport.bytestream import PlainStream
from edgeflow.net.wire import Frame, byte_view, encode_header

#: Header and payload of a frame, or an empty header and the rest of a payload.
_Pair = tuple[memoryview, memoryview]


class Outbox:
    """Sends frames in order; `put` never waits for the other side.

    Before `open`, frames are only queued. The sending thread starts when the system first takes less than a
    whole frame, and lives until the end of the connection.
    """

    def __init__(self, stream: PlainStream, peer: str) -> None:
        self._stream = stream
        self._peer = peer
        self._lock = threading.Lock()
        self._wake = threading.Condition(self._lock)
        self._is_open = False
        self._is_closed = False
        self._waiting: deque[_Pair] = deque()
        #: Sealed bytes to send next. Once they are left to the thread, only the thread and `end` change them.
        self._sealed: list[memoryview] = []
        self._thread: threading.Thread | None = None
        self._num_sent = 0

    @property
    def num_acknowledged(self) -> int:
        """Bytes that the other side's system has acknowledged; -1 once the socket is closed."""
        try:
            return self._num_sent - self._stream.num_unacknowledged
        except (OSError, ValueError):  # ValueError: the socket is closed
            return -1

    def open(self, first: Frame) -> None:
        """Send ``first``, then the queued frames; from now on `put` sends."""
        with self._lock:
            kept, self._waiting = self._waiting, deque()
            self._is_open = True
            for pair in (_pair(first), *kept):
                self._put(pair)
            if self._is_closed and self._thread is None:
                self._stream.finish()

    def put(self, frame: Frame) -> None:
        """Send a frame, or queue it for the thread.

        Raises:
            WorkerUnreachableError: If the connection has ended.
            CodecError: If the frame cannot be encoded.
        """
        pair = _pair(frame)
        with self._lock:
            if self._is_closed:
                raise WorkerUnreachableError(f"the connection with {self._peer} has ended")
            self._put(pair)

    def close(self, last: Frame | None) -> None:
        """Send ``last`` after the queued frames, and nothing more; may be called twice."""
        with self._lock:
            if self._is_closed:
                return
            if last is not None:
                with contextlib.suppress(WorkerUnreachableError):
                    self._put(_pair(last))
            self._is_closed = True
            if self._thread is not None:
                self._wake.notify()
            elif self._is_open:
                self._stream.finish()

    def end(self) -> None:
        """Drop the queued frames and join the thread; cut the stream first, so that the thread ends."""
        with self._lock:
            self._is_closed = True
            self._waiting.clear()
            self._sealed = []
            self._wake.notify()
        if self._thread is not None:
            self._thread.join()

    def _put(self, pair: _Pair) -> None:
        if not self._is_open or self._sealed or self._waiting or len(pair[1]) > self._stream.chunk_bytes:
            self._waiting.append(pair)
        else:
            sealed = self._stream.seal(pair)
            try:
                sent = self._stream.send_now(sealed)
            except OSError as error:
                self._is_closed = True  # the reader notices too, and tells the handler
                raise WorkerUnreachableError(
                    f"the connection with {self._peer} has ended: {error}"
                ) from error
            self._num_sent += sent
            self._sealed = _after(sealed, sent)
        if not self._is_open or not (self._sealed or self._waiting):
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=f"edgeflow-send-{self._peer}", daemon=True)
            self._thread.start()
        else:
            self._wake.notify()

    def _run(self) -> None:
        while (sealed := self._next()) is not None:
            try:
                sent = self._stream.send_some(sealed)
            except OSError:
                sent = -1
            with self._lock:
                if sent < 0:  # the reader notices too, and tells the handler
                    self._is_closed = True
                    self._waiting.clear()
                    self._sealed = []
                elif self._sealed:
                    self._num_sent += sent
                    self._sealed = _after(sealed, sent)
            del sealed  # do not keep it in memory while waiting for the next frame

    def _next(self) -> list[memoryview] | None:
        """Wait for bytes to send, and return them sealed; None at the end."""
        with self._lock:
            while not self._sealed and not self._waiting and not self._is_closed:
                self._wake.wait()
            if not self._sealed and not self._waiting:
                self._stream.finish()
                return None
            if not self._sealed:
                header, payload = self._waiting.popleft()
                size = self._stream.chunk_bytes
                if len(payload) > size:
                    self._waiting.appendleft((memoryview(b""), payload[size:]))
                self._sealed = self._stream.seal((header, payload[:size]))
            return self._sealed


def _pair(frame: Frame) -> _Pair:
    return memoryview(encode_header(frame)), memoryview(byte_view(frame.array))  # type: ignore[arg-type]


def _after(buffers: list[memoryview], count: int) -> list[memoryview]:
    """Return what is left of ``buffers`` without their first ``count`` bytes."""
    for index, buffer in enumerate(buffers):
        if count < len(buffer):
            return [buffer[count:], *buffers[index + 1 :]]
        count -= len(buffer)
    return []
