"""Frames over TCP: the fastest transport, for machines that can reach each other's ports.

Each pair of ranks has one connection, on which the frames of `edgeflow.net.wire` follow one another without
anything between them. The calling thread passes a frame to the system, header and payload in one call and
without a copy in this process; a sending thread takes over only if the system does not take the whole frame
at once. So a small frame needs no switch of threads, and a slow receiver does not block the caller. One
thread per connection reads, straight into the arrays that are delivered (`edgeflow.net.stream`).

A connection ends with a goodbye, empty or with a reason; an end of the stream without one means that the
other process is gone. A link that drops packets, or a machine that loses power, closes no connection:
therefore each side checks whether the other's system acknowledges what was sent
(`edgeflow.net.transport.silence`). Since not every system tells, and a process may hang, it also sends a ping
if nothing arrives for a while.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

import numpy as np

from edgeflow.errors import CodecError, ConfigError, EdgeflowError, LinkSilentError, WorkerUnreachableError
from edgeflow.net.address import join_address, split_bind
from edgeflow.net.rpc_errors import decode_description, describe, encode_description, rebuild
from edgeflow.net.stream import Allocate, FrameReader
from edgeflow.net.transport.base import MAX_HELLO_BYTES, Accept, Connection, Handler, Hello
from edgeflow.net.transport.bytestream import Credentials, PlainStream, handshake
from edgeflow.net.transport.outbox import Outbox
from edgeflow.net.transport.silence import Silence
from edgeflow.net.wire import MAX_NOTICE_BYTES, MAX_PAYLOAD_BYTES, Frame, Header, Kind

logger = logging.getLogger(__name__)

#: Interval at which a side that receives nothing checks whether the other side acknowledges.
_LOOK_S: Final = 0.25

#: A transfer counts as moving for this long after its last progress.
_CARRYING_S: Final = 1.0

#: Interval at which a side that receives nothing sends a ping.
IDLE_S: Final = 5.0

#: Number of such intervals without an answer after which the other side is gone. Several, because a busy
#: process answers late: its reader waits for the interpreter's lock.
_MAX_SILENT: Final = 3

#: Limit of a listener's connections, including those that have not sent a hello.
MAX_CONNECTIONS: Final = 64

#: Time limit for the TLS handshake and the hello of the dialling side.
_HELLO_TIMEOUT_S: Final = 10.0

#: How long to wait, without progress, for the other side to end a connection that this side has ended.
_CLOSE_GRACE_S: Final = 2.0

_ASKS, _ANSWERS = 0, 1


class _End:
    """One end of a connection.

    Args:
        stream: A stream on which this side has sent nothing yet.
        peer: Name of the other side, for messages.
        deadline_s: When the first frame must have arrived, as a time of ``time.monotonic``.
    """

    def __init__(self, stream: PlainStream, peer: str, allocate: Allocate, *, deadline_s: float) -> None:
        self.peer = peer
        self._stream = stream
        self._reader = FrameReader(max_payload_bytes=MAX_NOTICE_BYTES, allocate=allocate)
        self._outbox = Outbox(stream, peer)
        self._deadline_s: float | None = deadline_s
        self._is_ours_to_end = False
        self._silence = Silence()
        self._num_looks = 0
        self._num_silent = 0
        self._num_acknowledged = 0
        self._frames = self._read()

    # The connection's owner calls these, from any thread.

    def send(self, frame: Frame) -> None:
        self._outbox.put(frame)

    @property
    def is_carrying(self) -> bool:
        heard = self._stream.heard
        is_taken = heard is not None and heard.is_due and heard.ago_s < _CARRYING_S
        return is_taken or (self._reader.is_mid_frame and self._num_looks * _LOOK_S < _CARRYING_S)

    def close(self) -> None:
        self._is_ours_to_end = True
        self._outbox.close(_goodbye(None))

    def cut(self) -> None:
        """End at once."""
        self._is_ours_to_end = True
        self._stream.cut()

    # Opening the connection.

    def greet(self, hello: Hello) -> None:
        """Send a hello, and wait for it to come back: the dialling side's half.

        Raises:
            OSError: If the connection breaks, or there is no answer in time.
            WorkerUnreachableError: If the other side ends the connection.
            EdgeflowError: The error with which the other side refuses the connection.
        """
        self._outbox.open(hello.frame())
        answer = self._first()
        if answer.kind is Kind.GOODBYE:
            raise _reason(answer, self.peer) or WorkerUnreachableError(f"{self.peer} closed the connection")
        if Hello.of(answer) != hello:
            raise CodecError(f"{self.peer} answers another hello than the one sent")

    def be_greeted(self, accept: Accept) -> Handler:
        """Receive a hello and answer it: the listening side's half. Frames sent before are queued until then.

        Raises:
            OSError: If the connection breaks, or there is no hello in time.
            EdgeflowError: The error with which ``accept`` refuses the connection; see `refuse`.
        """
        self._reader.max_payload_bytes = MAX_HELLO_BYTES
        hello = Hello.of(self._first())
        handler = accept(hello, self)
        self._outbox.open(hello.frame())
        return handler

    def refuse(self, error: EdgeflowError) -> None:
        """Tell the other side why the connection is refused, and end it."""
        self._outbox.open(_goodbye(error))
        self._outbox.close(None)
        self._drain()

    def _first(self) -> Frame:
        for frame in self._frames:
            return frame
        raise WorkerUnreachableError(f"{self.peer} ended the connection before its first frame")

    # Receiving, on its own thread.

    def run(self, handler: Handler, max_payload_bytes: int) -> None:
        """Deliver frames until the connection ends."""
        self._deadline_s = None
        self._stream.set_idle(_LOOK_S)
        self._reader.max_payload_bytes = max_payload_bytes
        self._reader.admit = lambda header: None if _is_ours(header) else handler.admit(header)
        error, fault = self._deliver(handler)
        self._outbox.close(_goodbye(fault))
        if not self._is_ours_to_end:
            handler.on_lost(error)
        self._drain()

    def _deliver(self, handler: Handler) -> tuple[EdgeflowError | None, EdgeflowError | None]:
        """Deliver frames; return why the connection has ended, and the fault to tell the other side."""
        try:
            for frame in self._frames:
                if self._is_ours_to_end:
                    return None, None
                if frame.kind is Kind.GOODBYE:
                    return _reason(frame, self.peer), None
                if frame.kind is not Kind.PING:
                    handler.on_frame(frame)
                elif frame.tag == _ASKS:
                    self.send(_ping(_ANSWERS))
                del frame  # do not keep it in memory while waiting for the next one
        except OSError as failure:
            return WorkerUnreachableError(f"the connection with {self.peer} failed: {failure}"), None
        except EdgeflowError as failure:
            return failure, failure
        except Exception as failure:
            logger.exception("connection.failed", extra={"peer": self.peer})
            return WorkerUnreachableError(f"the connection with {self.peer} failed"), _neutral(failure)
        where = " within a frame" if self._reader.is_mid_frame else ""
        return WorkerUnreachableError(f"{self.peer} is gone: the connection ended{where}"), None

    def _read(self) -> Iterator[Frame]:
        """Yield frames until the stream ends."""
        while True:
            if self._deadline_s is not None:
                self._stream.set_idle(self._deadline_s - time.monotonic())
            try:
                count = self._stream.receive_into(self._reader.target)
            except BlockingIOError:
                self._look()
                continue
            if count == 0:
                return
            self._num_looks = self._num_silent = 0
            yield from self._reader.filled(count)

    def _look(self) -> None:
        """Check the other side after a while without bytes; raise if it is gone."""
        if self._deadline_s is not None:
            raise TimeoutError(f"{self.peer} accepts connections but sends nothing")
        silent_s = self._silence.look(self._stream.heard, time.monotonic())
        if silent_s is not None:
            raise LinkSilentError(f"{self.peer} has acknowledged nothing for {silent_s:.1f} s")
        self._num_looks += 1
        if self._num_looks * _LOOK_S >= IDLE_S:
            self._num_looks = 0
            self._ask()

    def _ask(self) -> None:
        """Send a ping; raise if several had no answer."""
        if self._is_moving():
            return
        self._num_silent += 1
        if self._num_silent >= _MAX_SILENT or self._is_ours_to_end:
            silent_s = IDLE_S * self._num_silent
            raise WorkerUnreachableError(f"{self.peer} has sent nothing for {silent_s:.0f} s")
        self.send(_ping(_ASKS))

    def _is_moving(self) -> bool:
        """Return whether the other side has acknowledged bytes since the last call."""
        before, self._num_acknowledged = self._num_acknowledged, self._outbox.num_acknowledged
        return self._num_acknowledged != before

    def _drain(self) -> None:
        """Discard incoming bytes until the other side ends, or nothing moves any more; then free all."""
        unread = memoryview(bytearray(1 << 16))
        with contextlib.suppress(OSError):
            self._stream.set_idle(_CLOSE_GRACE_S)
            deadline_s = time.monotonic() + _CLOSE_GRACE_S
            while time.monotonic() < deadline_s or self._is_moving():
                with contextlib.suppress(BlockingIOError):
                    if self._stream.receive_into(unread) == 0:
                        break
        self._stream.cut()
        self._outbox.end()
        self._stream.close()


def _is_ours(header: Header) -> bool:
    return header.kind is Kind.PING or header.kind is Kind.GOODBYE


def _ping(tag: int) -> Frame:
    return Frame(kind=Kind.PING, epoch=0, source=0, tag=tag)


def _goodbye(error: EdgeflowError | None) -> Frame:
    text = b"" if error is None else encode_description(describe(error))
    return Frame(kind=Kind.GOODBYE, epoch=0, source=0, array=np.frombuffer(text, np.uint8))


def _reason(goodbye: Frame, peer: str) -> EdgeflowError | None:
    """Return the error in a goodbye; None if it is empty: the other side has closed the connection."""
    return rebuild(decode_description(goodbye.array.tobytes()), where=peer) if goodbye.array.size else None


def _neutral(error: Exception) -> EdgeflowError:
    return rebuild(describe(error))


class _Settings(NamedTuple):
    """Settings of all connections of a transport."""

    credentials: Credentials | None
    max_payload_bytes: int
    allocate: Allocate


class _Listener:
    def __init__(self, server: socket.socket, host: str, accept: Accept, settings: _Settings) -> None:
        self.address = join_address(host, server.getsockname()[1])
        self._server = server
        self._accept = accept
        self._settings = settings
        self._context = _context(settings.credentials, server=True)
        self._lock = threading.Lock()
        #: Serving thread -> its end, or the socket of a connection without one yet.
        self._served: dict[threading.Thread, _End | socket.socket] = {}
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name=f"edgeflow-accept-{self.address}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            served = dict(self._served)
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
        self._thread.join()
        self._server.close()
        _end_all(served)

    def _run(self) -> None:
        while not self._is_closed:
            try:
                connected, address = self._server.accept()
            except OSError as error:
                if not self._is_closed:  # for example if no file descriptor is left
                    logger.warning("accept.failed", extra={"address": self.address, "reason": str(error)})
                    time.sleep(0.1)
                continue
            peer = join_address(*address[:2])
            thread = threading.Thread(
                target=self._serve, args=(connected, peer), name=f"edgeflow-read-{peer}", daemon=True
            )
            with self._lock:
                is_welcome = len(self._served) < MAX_CONNECTIONS and not self._is_closed
                if is_welcome:
                    self._served[thread] = connected
            if is_welcome:
                thread.start()
            else:
                logger.warning("connection.refused", extra={"peer": peer, "limit": MAX_CONNECTIONS})
                connected.close()

    def _serve(self, connected: socket.socket, peer: str) -> None:
        try:
            deadline_s = time.monotonic() + _HELLO_TIMEOUT_S
            stream = handshake(connected, self._context, server_name=None, deadline_s=deadline_s)
            end = _End(stream, peer, self._settings.allocate, deadline_s=deadline_s)
            with self._lock:
                self._served[threading.current_thread()] = end
                if self._is_closed:
                    raise WorkerUnreachableError("the listener is closed")
            self._carry(end)
        except (OSError, EdgeflowError) as error:
            logger.info("connection.refused", extra={"peer": peer, "reason": str(error)})
            connected.close()
        finally:
            with self._lock:
                del self._served[threading.current_thread()]

    def _carry(self, end: _End) -> None:
        try:
            handler = end.be_greeted(self._accept)
        except EdgeflowError as error:
            end.refuse(error)
            return
        end.run(handler, self._settings.max_payload_bytes)


class TcpTransport:
    """Dials and listens at TCP ports.

    Args:
        credentials: For mutual TLS; without them nothing is encrypted.
        max_payload_bytes: Limit of one frame.
        allocate: Returns the arrays for incoming payloads.
    """

    name = "tcp"

    def __init__(
        self,
        credentials: Credentials | None = None,
        *,
        max_payload_bytes: int = MAX_PAYLOAD_BYTES,
        allocate: Allocate = np.empty,
    ) -> None:
        self._settings = _Settings(credentials, max_payload_bytes, allocate)
        self._context = _context(credentials, server=False)
        self._dialled: dict[threading.Thread, _End] = {}

    def listen(self, bind: str, accept: Accept) -> _Listener:
        host, port = split_bind(bind or "127.0.0.1:0")
        try:
            family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
            server = socket.create_server((host, port), family=family, backlog=MAX_CONNECTIONS)
        except OSError as error:
            raise ConfigError(
                f"cannot listen at {join_address(host, port)}: {error.strerror or error}"
            ) from error
        return _Listener(server, host, accept, self._settings)

    def dial(self, address: str, hello: Hello, handler: Handler, *, timeout_s: float) -> Connection:
        try:
            end = self._connect(address, hello, timeout_s)
        except TimeoutError as error:
            waited = f"no answer in {timeout_s:.1f} s"
            raise WorkerUnreachableError(f"{address} cannot be reached: {waited}") from error
        except OSError as error:
            raise WorkerUnreachableError(f"{address} cannot be reached: {error.strerror or error}") from error
        thread = threading.Thread(
            target=end.run,
            args=(handler, self._settings.max_payload_bytes),
            name=f"edgeflow-read-{address}",
            daemon=True,
        )
        thread.start()
        self._dialled = {t: e for t, e in self._dialled.items() if t.is_alive()} | {thread: end}
        return end

    def _connect(self, address: str, hello: Hello, timeout_s: float) -> _End:
        deadline_s = time.monotonic() + timeout_s
        host, port = split_bind(address)
        connected = socket.create_connection((host, port), timeout=timeout_s)
        try:
            stream = handshake(connected, self._context, server_name=host, deadline_s=deadline_s)
            end = _End(stream, address, self._settings.allocate, deadline_s=deadline_s)
            end.greet(hello)
        except BaseException:
            connected.close()
            raise
        return end

    def close(self) -> None:
        dialled, self._dialled = self._dialled, {}
        _end_all(dialled)


def _end_all(ends: Mapping[threading.Thread, _End | socket.socket]) -> None:
    """Close connections and wait for their threads; cut those that do not end in time."""
    deadline_s = time.monotonic() + _CLOSE_GRACE_S
    for end in ends.values():
        if isinstance(end, _End):
            end.close()
        else:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
    threads = [thread for thread in ends if thread is not threading.current_thread()]
    for thread in threads:
        thread.join(max(0.0, deadline_s - time.monotonic()))
    for thread in threads:
        end = ends[thread]
        if isinstance(end, _End):
            end.cut()
        thread.join()


def _context(credentials: Credentials | None, *, server: bool) -> ssl.SSLContext | None:
    return None if credentials is None else credentials.ssl_context(server=server)
