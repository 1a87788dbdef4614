"""Bytes over one TCP connection, plain or under TLS: what `edgeflow.net.transport.tcp` is built on.

One thread reads, and one at a time sends. `seal` turns what should be sent into what goes over the wire, and
must be called in the order of sending; for a plain stream it is the same buffers. TLS works on buffers in
memory (`ssl.MemoryBIO`) and not on the socket, because a TLS socket may not be used by two threads at once.
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

#: What a connection that carries data and gets no acknowledgement may last, where nobody looks at `heard`.
#: Not shorter: the system also ends by it a connection whose receiver acknowledges and has no room.
_USER_TIMEOUT_MS: Final = 15_000

#: Of a connection that carries nothing the system itself asks that often whether the other side is there.
_PROBE_S: Final = 1

#: The head of Linux's ``struct tcp_info``: eight small fields, then words.
_TCP_INFO: Final = struct.Struct("=8B17I")

#: Encrypted bytes that are read at once: some records of TLS.
_RECORDS_BYTES: Final = 1 << 16


class Credentials(Protocol):
    """Where TLS contexts come from."""

    def ssl_context(self, *, server: bool) -> ssl.SSLContext: ...


class PlainStream:
    """A connected socket without encryption."""

    #: More than this is not sealed at once; here there is nothing to seal.
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
        """From now on `receive_into` waits no longer than this."""
        # Not `settimeout`, for which Python asks the system before every call whether it would wait.
        whole, fraction = divmod(max(0.001, seconds), 1.0)
        value = struct.pack("ll", int(whole), int(fraction * 1e6))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, value)

    def receive_into(self, target: memoryview) -> int:
        """Wait for bytes; 0 at the end of the stream.

        Raises:
            BlockingIOError: If none come within the idle time.
            OSError: If the connection is broken.
        """
        # Not MSG_WAITALL: measured, a thread that waits for the whole of it is woken later.
        return self._socket.recv_into(target)

    def seal(self, buffers: Sequence[memoryview]) -> list[memoryview]:
        """Return the bytes that carry ``buffers`` over the wire."""
        return list(buffers)

    def send_now(self, buffers: Sequence[memoryview]) -> int:
        """Hand sealed bytes to the system, as many as it takes without waiting; return how many."""
        try:
            return self._socket.sendmsg(buffers, (), socket.MSG_DONTWAIT)
        except BlockingIOError:
            return 0

    def send_some(self, buffers: Sequence[memoryview]) -> int:
        """The same, but wait until some are taken."""
        return self._socket.sendmsg(buffers)

    @property
    def num_unacknowledged(self) -> int:
        """Bytes that the system holds because the other side has not acknowledged them."""
        return int(struct.unpack("i", fcntl.ioctl(self._socket, termios.TIOCOUTQ, bytes(4)))[0])

    @property
    def heard(self) -> Heard | None:
        """What the system knows of the other side's; None where it does not say: only Linux does."""
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
        """Send nothing more; the other side reads to the end."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def cut(self) -> None:
        """End both directions; whoever waits for the socket goes on. May be called from any thread."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Free the socket; nobody may use it any more."""
        self._socket.close()


class TlsStream(PlainStream):
    """The same under TLS; made by `handshake`, after the other side has been authenticated."""

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
                if buffer:  # an empty record says nothing
                    self._tls.write(buffer)
            return [memoryview(self._outgoing.read())]


def handshake(
    connected: socket.socket,
    context: ssl.SSLContext | None,
    *,
    server_name: str | None,
    deadline_s: float,
) -> PlainStream:
    """Return the stream on a connected socket, after the handshake if there is a context.

    Args:
        server_name: Whom this side, the client, expects; None on the server's side.
        deadline_s: Of ``time.monotonic``, for the handshake.

    Raises:
        WorkerUnreachableError: If the other side is not whom it should be, or speaks no TLS.
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
            connected.sendall(outgoing.read())  # the alert that says why
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
