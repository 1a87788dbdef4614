"""Streams of bytes over a TCP connection, plain or with TLS, for `edgeflow.net.transport.tcp`.

One thread reads, and one thread at a time sends. `seal` encrypts buffers for the wire, and must be called in
the order of sending; a plain stream returns the buffers unchanged. TLS works on buffers in memory
(`ssl.MemoryBIO`) and not on the socket, because two threads must not use a TLS socket at once.
"""

from __future__ import annotations

import contextlib
import fcntl
import socket
import ssl
import struct
import termios
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from edgeflow.errors import WorkerUnreachableError
from edgeflow.net.transport.silence import Heard

#: The system ends a connection whose data is not acknowledged for this long: a fallback for systems without
#: `heard`. Not shorter, because it also ends connections whose receiver acknowledges but has no room.
_USER_TIMEOUT_MS: Final = 15_000

#: Interval at which the system probes an idle connection.
_PROBE_S: Final = 1

#: The head of Linux's ``struct tcp_info``: eight small fields, then words.
_TCP_INFO: Final = struct.Struct("=8B17I")

#: Most encrypted bytes per read: a few TLS records.
_RECORDS_BYTES: Final = 1 << 16


class Credentials(Protocol):
    """Makes TLS contexts."""

    def ssl_context(self, *, server: bool) -> ssl.SSLContext: ...


class PlainStream:
    """A connected socket without encryption."""

    #: Most payload bytes to pass to one `seal`; without encryption there is no limit.
    chunk_bytes: int = 1 << 62

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        connected.settimeout(None)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _USER_TIMEOUT_MS)
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _PROBE_S)
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _PROBE_S)
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def set_idle(self, seconds: float) -> None:
        """Limit the time that `receive_into` waits."""
        # Not `settimeout`, with which Python polls the socket before each call.
        whole, fraction = divmod(max(0.001, seconds), 1.0)
        value = struct.pack("ll", int(whole), int(fraction * 1e6))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, value)

    def receive_into(self, target: memoryview) -> int:
        """Wait for bytes, and return their number; 0 at the end of the stream.

        Raises:
            BlockingIOError: If none arrive within the time of `set_idle`.
            OSError: If the connection is broken.
        """
        # Not MSG_WAITALL: in measurements, a thread that waits for all bytes was woken later.
        return self._socket.recv_into(target)

    def seal(self, buffers: Sequence[memoryview]) -> list[memoryview]:
        """Return the bytes to send for ``buffers``."""
        return list(buffers)

    def send_now(self, buffers: Sequence[memoryview]) -> int:
        """Send as many of the sealed bytes as the system takes without waiting; return their number."""
        try:
            return self._socket.sendmsg(buffers, (), socket.MSG_DONTWAIT)
        except BlockingIOError:
            return 0

    def send_some(self, buffers: Sequence[memoryview]) -> int:
        """Send sealed bytes, waiting until the system takes some; return their number."""
        return self._socket.sendmsg(buffers)

    @property
    def num_unacknowledged(self) -> int:
        """Bytes in the system's send buffer that the other side has not acknowledged."""
        return int(struct.unpack("i", fcntl.ioctl(self._socket, termios.TIOCOUTQ, bytes(4)))[0])

    @property
    def heard(self) -> Heard | None:
        """What the system knows about the other side; None if it does not tell (only Linux does)."""
        if not hasattr(socket, "TCP_INFO"):
            return None
        try:
            data = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
            _, _, _, probes, _, _, _, _, *words = _TCP_INFO.unpack(data)
        except (OSError, struct.error):
            return None
        unacknowledged, last_ack_ms, round_trip_us, deviation_us = words[4], words[12], words[15], words[16]
        return Heard(
            is_due=unacknowledged > 0 or probes > 0,
            ago_s=last_ack_ms * 1e-3,
            round_trip_s=(round_trip_us + 4 * deviation_us) * 1e-6,
        )

    def finish(self) -> None:
        """Send nothing more; the other side sees the end of the stream after the bytes sent."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def cut(self) -> None:
        """End both directions, which wakes threads that wait for the socket; callable from any thread."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Free the socket; no thread may use the stream afterwards."""
        self._socket.close()


class TlsStream(PlainStream):
    """A socket with TLS; `handshake` makes it after it has authenticated the other side."""

    chunk_bytes = 1 << 18

    def __init__(
        self, connected: socket.socket, tls: ssl.SSLObject, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO
    ) -> None:
        super().__init__(connected)
        self._tls = tls
        self._incoming = incoming
        self._outgoing = outgoing
        self._lock = threading.Lock()
        self._scratch = memoryview(bytearray(_RECORDS_BYTES))

    def receive_into(self, target: memoryview) -> int:
        while True:
            with self._lock:
                try:
                    return self._tls.read(len(target), target)  # type: ignore[return-value]  # typeshed
                except ssl.SSLWantReadError:
                    pass
                except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                    return 0
            count = super().receive_into(self._scratch)
            if count == 0:
                return 0
            with self._lock:
                self._incoming.write(self._scratch[:count])

    def seal(self, buffers: Sequence[memoryview]) -> list[memoryview]:
        with self._lock:
            for buffer in buffers:
                if buffer:  # do not send empty TLS records
                    self._tls.write(buffer)
            return [memoryview(self._outgoing.read())]


def handshake(
    connected: socket.socket,
    context: ssl.SSLContext | None,
    *,
    server_name: str | None,
    deadline_s: float,
) -> PlainStream:
    """Return the stream on a connected socket, after a TLS handshake if ``context`` is given.

    Args:
        server_name: Name or IP address that the server's certificate must have; None on the server's side.
        deadline_s: End of the handshake, as a time of ``time.monotonic``.

    Raises:
        WorkerUnreachableError: If the other side's certificate is refused, or it does not speak TLS.
        OSError: If the connection breaks, or the handshake does not end in time.
    """
    if context is None:
        return PlainStream(connected)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_side=server_name is None, server_hostname=server_name)
    try:
        _shake(connected, tls.do_handshake, incoming, outgoing, deadline_s)
    except ssl.SSLError as error:
        with contextlib.suppress(OSError):
            connected.sendall(outgoing.read())  # the TLS alert with the reason
        raise WorkerUnreachableError(f"TLS handshake failed: {error.reason or error}") from error
    return TlsStream(connected, tls, incoming, outgoing)


def _shake(
    connected: socket.socket,
    step: Callable[[], None],
    incoming: ssl.MemoryBIO,
    outgoing: ssl.MemoryBIO,
    deadline_s: float,
) -> None:
    while True:
        connected.settimeout(max(0.001, deadline_s - time.monotonic()))
        try:
            step()
        except ssl.SSLWantReadError:
            is_done = False
        else:
            is_done = True
        if outgoing.pending:
            connected.sendall(outgoing.read())
        if is_done:
            return
        data = connected.recv(_RECORDS_BYTES)
        if not data:
            raise ConnectionResetError("the other side ended the TLS handshake")
        incoming.write(data)
