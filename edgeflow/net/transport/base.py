"""What carries frames between ranks: the `Transport` protocol.

A transport knows connections and frames, nothing of programs. Per epoch there is one connection for each
pair of ranks that talk; frames go both ways on it, in order. Of two workers the lower rank dials; the
client always dials. To add a transport: write a file beside this one, and name it in
``tests/cluster/test_transport.py``, whose tests every transport passes.

Contract, which the suite checks:

* `Connection.send` queues and returns; it blocks on nothing. The array must not be changed afterwards.
* Frames arrive in the order sent, unchanged; the arrays that arrive belong to the receiver.
* The calls to one `Handler` come from the transport's threads, one at a time: first any number of `admit` and
  `on_frame`, then at most one `on_lost`, and nothing after the connection's own `close`.
* `close` lets what was queued go out, then ends the connection; the other side sees `on_lost(None)`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from edgeflow.errors import CodecError, EdgeflowError
from edgeflow.net.wire import Frame, Header, Kind

#: Payload of a hello: the proof. Whoever has said no hello yet cannot make a listener hold more than this.
MAX_HELLO_BYTES: Final = 64


@dataclass(frozen=True, slots=True)
class Hello:
    """Who dials, in which epoch: the first frame on a connection, and the answer to it.

    Attributes:
        proof: Shows that the dialling side belongs to the epoch; see `edgeflow.net.proof`. A transport
            carries it, at most `MAX_HELLO_BYTES`, and does not look at it.
    """

    epoch: int
    rank: int
    proof: bytes = b""

    def frame(self) -> Frame:
        payload = np.frombuffer(self.proof, np.uint8)
        return Frame(kind=Kind.HELLO, epoch=self.epoch, source=self.rank, array=payload)

    @staticmethod
    def of(frame: Frame | None) -> Hello:
        """Raises `CodecError` if ``frame`` is no hello, or is incomplete (None)."""
        if frame is None or frame.kind is not Kind.HELLO:
            found = "a part of a frame" if frame is None else frame.kind.name
            raise CodecError(f"a connection begins with a hello, not {found}")
        return Hello(frame.epoch, frame.source, frame.array.tobytes())


class Handler(Protocol):
    """The owner of one end of a connection."""

    def admit(self, header: Header) -> None:
        """Look at a header before its payload is allocated; raise `EdgeflowError` to end the connection."""

    def on_frame(self, frame: Frame) -> None:
        """Take a frame; it must not block."""

    def on_lost(self, error: EdgeflowError | None) -> None:
        """The connection has ended: None if the other side closed it."""


class Connection(Protocol):
    """One end of a connection."""

    def send(self, frame: Frame) -> None:
        """Queue a frame.

        Raises:
            WorkerUnreachableError: If the connection has ended.
        """

    @property
    def is_carrying(self) -> bool:
        """Whether data is on its way, either way, and arrives: what else goes there may have to wait for it.

        False where that is not known.
        """

    def close(self) -> None:
        """Send what is queued, then end; may be called twice, and from a handler."""


#: Decides about an incoming connection: returns its handler, or raises an `EdgeflowError` to refuse it,
#: which the dialling side then raises from `dial`. An accepted hello is sent back as it came.
Accept = Callable[[Hello, Connection], Handler]


class Listener(Protocol):
    """Takes incoming connections."""

    @property
    def address(self) -> str:
        """Where to dial it."""

    def close(self) -> None:
        """End every connection that it took, and take no more."""


class Transport(Protocol):
    """Dials and listens."""

    name: str

    def listen(self, bind: str, accept: Accept) -> Listener:
        """Take connections at ``bind``.

        Raises:
            ConfigError: If that address cannot be had.
        """

    def dial(self, address: str, hello: Hello, handler: Handler, *, timeout_s: float) -> Connection:
        """Connect, and wait until the other side has accepted.

        Raises:
            WorkerUnreachableError: If nobody answers within ``timeout_s``.
            EdgeflowError: What the other side refused it with.
        """

    def close(self) -> None:
        """End every connection that it dialled."""
