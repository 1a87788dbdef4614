"""A transport within one process: for tests, and the simplest example of the contract.

Frames are encoded and decoded as on a real wire, so that no array is shared by accident and tests cover the
codec. Each end of a connection delivers frames from its own thread.
"""

from __future__ import annotations

from collections.abc import Callable

from edgeflow.errors import CodecError, ConfigError, EdgeflowError, WorkerUnreachableError
from edgeflow.net.transport.base import Accept, Connection, Handler, Hello
from edgeflow.net.wire import MAX_PAYLOAD_BYTES, Decoder, Frame, encode
from edgeflow.threads import SYSTEM, Queue, Thread, Threads


class MemoryNetwork:
    """The addresses that memory transports can reach; one per test."""

    def __init__(self, threads: Threads = SYSTEM) -> None:
        self.threads = threads
        self.listeners: dict[str, _Listener] = {}
        self._next_port = 1

    def new_address(self) -> str:
        """Return an address that no listener has."""
        self._next_port += 1
        return f"memory:{self._next_port - 1}"


class _End:
    """One end of a connection; `peer` is the other."""

    def __init__(self, address: str, max_payload_bytes: int, threads: Threads) -> None:
        self.peer: _End
        self.handler: Handler
        self._address = address
        self._inbox: Queue[bytes | None] = threads.queue()
        self._decoder_limit = max_payload_bytes
        self._lock = threads.lock()
        self._is_closed = False
        self._threads = threads
        self._thread: Thread | None = None

    def start(self, handler: Handler) -> None:
        self.handler = handler
        self._thread = self._threads.start(self._deliver, name=f"edgeflow-memory-{self._address}")

    def send(self, frame: Frame) -> None:
        messages = list(encode(frame))
        with self._lock:  # the messages of a frame stay together
            if self._is_closed:
                raise WorkerUnreachableError(f"the connection with {self._address} has ended")
            for message in messages:
                self.peer._inbox.put(message)

    @property
    def is_carrying(self) -> bool:
        return False  # frames arrive at once

    def close(self) -> None:
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            self.peer._inbox.put(None)
        self._inbox.put(None)

    def join(self) -> None:
        if self._thread is not None:
            self._thread.join()

    def _deliver(self) -> None:
        decoder = Decoder(max_payload_bytes=self._decoder_limit, admit=self.handler.admit)
        error: EdgeflowError | None = None
        try:
            while (message := self._inbox.get()) is not None and not self._is_closed:
                frame = decoder.feed(message)
                if frame is not None:
                    self.handler.on_frame(frame)
            if decoder.is_mid_frame:
                error = CodecError("the connection ended within a frame")
        except EdgeflowError as failure:
            error = failure
        if not self._is_closed:
            self.close()
            self.handler.on_lost(error)


class _Listener:
    def __init__(self, network: MemoryNetwork, address: str, accept: Accept, max_payload_bytes: int) -> None:
        self.address = address
        self.max_payload_bytes = max_payload_bytes
        self.accept = accept
        self.ends: list[_End] = []
        self._network = network

    def close(self) -> None:
        self._network.listeners.pop(self.address, None)
        _close_all(self.ends)


class MemoryTransport:
    """Reaches the listeners of one `MemoryNetwork`."""

    name = "memory"

    def __init__(self, network: MemoryNetwork, *, max_payload_bytes: int = MAX_PAYLOAD_BYTES) -> None:
        self._network = network
        self._max_payload_bytes = max_payload_bytes
        self._ends: list[_End] = []

    def listen(self, bind: str, accept: Accept) -> _Listener:
        address = bind or self._network.new_address()
        if address in self._network.listeners:
            raise ConfigError(f"cannot listen at {address}: it is in use")
        listener = _Listener(self._network, address, accept, self._max_payload_bytes)
        self._network.listeners[address] = listener
        return listener

    def dial(self, address: str, hello: Hello, handler: Handler, *, timeout_s: float) -> Connection:
        listener = self._network.listeners.get(address)
        if listener is None:
            raise WorkerUnreachableError(f"{address} cannot be reached: nobody listens there")
        threads = self._network.threads
        here = _End(address, self._max_payload_bytes, threads)
        there = _End(f"rank {hello.rank}", listener.max_payload_bytes, threads)
        here.peer, there.peer = there, here
        their_handler = listener.accept(hello, there)
        listener.ends.append(there)
        self._ends.append(here)
        there.start(their_handler)
        here.start(handler)
        return here

    def close(self) -> None:
        _close_all(self._ends)


def _close_all(ends: list[_End]) -> None:
    steps: tuple[Callable[[_End], None], ...] = (_End.close, _End.join)
    for step in steps:
        for end in ends:
            step(end)
    ends.clear()
