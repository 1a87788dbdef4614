"""What is to be sent on one connection: at once if the system takes it, else by a thread of its own."""

from __future__ import annotations

import contextlib
import threading
from collections import deque

from edgeflow.errors import WorkerUnreachableError
from edgeflow.net.transport.bytestream import PlainStream
from edgeflow.net.wire import Frame, byte_view, encode_header

#: Header and payload of a frame, or of what is left of it.
_Pair = tuple[memoryview, memoryview]


class Outbox:
    """Frames on their way out, in order; `put` never waits for the other side.

    Until `open` frames are only kept. The thread is started when the system first takes less than a whole
    frame, and lives to the end of the connection.
    """

    def __init__(self, stream: PlainStream, peer: str) -> None:
        self._stream = stream
        self._peer = peer
        self._lock = threading.Lock()
        self._wake = threading.Condition(self._lock)
        self._is_open = False
        self._is_closed = False
        self._waiting: deque[_Pair] = deque()
        #: Sealed bytes that go next. While the thread runs only it changes them, but for `end`.
        self._sealed: list[memoryview] = []
        self._thread: threading.Thread | None = None
        self._num_sent = 0

    @property
    def num_acknowledged(self) -> int:
        """Bytes that have reached the other side's system; -1 if that cannot be said any more."""
        try:
            return self._num_sent - self._stream.num_unacknowledged
        except (OSError, ValueError):  # ValueError: the socket is closed
            return -1

    def open(self, first: Frame) -> None:
        """Send ``first``, then what is kept, and from now on what comes."""
        with self._lock:
            kept, self._waiting = self._waiting, deque()
            self._is_open = True
            for pair in (_pair(first), *kept):
                self._put(pair)
            if self._is_closed and self._thread is None:
                self._stream.finish()

    def put(self, frame: Frame) -> None:
        """Send a frame, or keep it for the thread.

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
        """Send ``last`` after what is kept, and nothing more; may be called twice."""
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
        """Forget what is kept. The stream has been cut, so the thread waits for nothing and ends."""
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
                self._is_closed = True  # the reader finds out as well, and tells the handler
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
                if sent < 0:  # the reader finds out as well
                    self._is_closed = True
                    self._waiting.clear()
                    self._sealed = []
                elif self._sealed:
                    self._num_sent += sent
                    self._sealed = _after(sealed, sent)
            del sealed  # waiting for the next one must not keep this one in memory

    def _next(self) -> list[memoryview] | None:
        """Wait for something to send; None at the end."""
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
