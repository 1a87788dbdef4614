"""The interface of a transport, which carries frames between ranks.

A transport knows connections and frames, but no programs. In each epoch, every pair of ranks that exchange
frames has one connection, which carries frames both ways, in order. Of two workers the lower rank dials; the
client always dials. To add a transport, write a file beside this one, and add it to
``tests/cluster/test_transport.py``, whose tests every transport must pass.

Contract, which these tests check:

* `Connection.send` queues a frame and returns without waiting. The array must not be changed afterwards.
* Frames arrive in the order sent, unchanged; the arrays that arrive belong to the receiver.
* The calls to one `Handler` come from the transport's threads, one at a time: first any number of `admit` and
  `on_frame`, then at most one `on_lost`, and nothing after the connection's own `close`.
* `close` sends the queued frames, then ends the connection; the other side sees `on_lost(None)`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from edgeflow.errors import CodecError, EdgeflowError
from edgeflow.net.wire import Frame, Header, Kind

#: Limit of a hello's payload, the proof; so an unknown caller makes a listener allocate no more than this.
MAX_HELLO_BYTES: Final = 64


@dataclass(frozen=True, slots=True)
class Hello:
    """The first frame on a connection: epoch and rank of the dialling side; the answer repeats it.

    Attributes:
        proof: Shows that the dialling side belongs to the epoch; see `edgeflow.net.proof`. A transport
            carries it, at most `MAX_HELLO_BYTES`, and does not read it.
    """

    epoch: int
    rank: int
    proof: bytes = b""

    def frame(self) -> Frame:
        payload = np.frombuffer(self.proof, np.uint8)
        return Frame(kind=Kind.HELLO, epoch=self.epoch, source=self.rank, array=payload)

    @staticmethod
    def of(frame: Frame | None) -> Hello:
        """Return the hello in ``frame``.

        Raises:
            CodecError: If ``frame`` is of another kind, or incomplete (None).
        """
        if frame is None or frame.kind is not Kind.HELLO:
            found = "a part of a frame" if frame is None else frame.kind.name
            raise CodecError(f"a connection must begin with a hello, got {found}")
        return Hello(frame.epoch, frame.source, frame.array.tobytes())


class Handler(Protocol):
    """The owner of one end of a connection."""

    def admit(self, header: Header) -> None:
        """Check a header before its payload is allocated; raise `EdgeflowError` to end the connection."""

    def on_frame(self, frame: Frame) -> None:
        """Take a frame; it must not block."""

    def on_lost(self, error: EdgeflowError | None) -> None:
        """Learn that the connection has ended; ``error`` is None if the other side closed it."""


class Connection(Protocol):
    """One end of a connection."""

    def send(self, frame: Frame) -> None:
        """Queue a frame.

        Raises:
            WorkerUnreachableError: If the connection has ended.
        """

    @property
    def is_carrying(self) -> bool:
        """Whether data is moving, in either direction, so that other traffic to that peer may be delayed.

        False if the transport cannot tell.
        """

    def close(self) -> None:
        """Send the queued frames, then end; may be called twice, and from a handler."""


#: Decides about an incoming connection: returns its handler, or raises an `EdgeflowError` to refuse it,
#: which `dial` then raises on the dialling side. The transport sends an accepted hello back unchanged.
Accept = Callable[[Hello, Connection], Handler]


class Listener(Protocol):
    """Accepts incoming connections."""

    @property
    def address(self) -> str:
        """Address to dial."""

    def close(self) -> None:
        """End every accepted connection, and accept no more."""


class Transport(Protocol):
    """Dials and listens."""

    name: str

    def listen(self, bind: str, accept: Accept) -> Listener:
        """Accept connections at ``bind``.

        Raises:
            ConfigError: If ``bind`` is malformed, in use, or not an address of this machine.
        """

    def dial(self, address: str, hello: Hello, handler: Handler, *, timeout_s: float) -> Connection:
        """Connect, and wait until the other side has accepted.

        Raises:
            WorkerUnreachableError: If nobody answers within ``timeout_s``.
            EdgeflowError: The error with which the other side refused the connection.
        """

    def close(self) -> None:
        """End every connection that this transport has dialled."""
