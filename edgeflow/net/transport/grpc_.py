"""Frames over gRPC: one bidirectional stream of raw bytes per connection.

The method ``/edgeflow.v1.DataPlane/Exchange`` takes and returns messages as raw bytes (see
`edgeflow.net.wire`), without protobuf around them, which would copy every tensor once more on each side. The
worker's control server carries it, so it works where only that port is open. Nothing is compressed, because
activations hardly compress.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import queue
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import grpc
import grpc.aio

from edgeflow.errors import (
    CodecError,
    ConfigError,
    EdgeflowError,
    LinkSilentError,
    WorkerOverloadedError,
    WorkerUnreachableError,
)
from edgeflow.net.address import join_address, split_bind
from edgeflow.net.rpc_errors import abort, from_rpc_error, translated
from edgeflow.net.security import Credentials
from edgeflow.net.transport.base import MAX_HELLO_BYTES, Accept, Connection, Handler, Hello
from edgeflow.net.wire import MAX_PAYLOAD_BYTES, Decoder, Frame, decode, encode

logger = logging.getLogger(__name__)

SERVICE: Final = "edgeflow.v1.DataPlane"
METHOD: Final = "Exchange"

#: Limit of one message: a chunk of a frame, or a control message with a whole program.
MAX_MESSAGE_BYTES: Final = 64 << 20

#: Limit of a server's concurrent streams; each holds a thread of its pool, and one that reads.
MAX_STREAMS: Final = 64

#: A peer is gone if nothing arrives from it for 10 s and then no answer to a ping for 5 s. gRPC's own threads
#: answer pings, also while Python computes; a stopped process, or one behind a cut cable, does not answer.
_KEEPALIVE: Final = (("grpc.keepalive_time_ms", 10_000), ("grpc.keepalive_timeout_ms", 5_000))

#: The dialling side of a stream of frames sends pings sooner, because only these detect a link that drops
#: packets between two ranks. The stream ends if nothing arrives for 1 s and then no answer for 2 s; anything
#: from the other side, such as a window update, counts as an answer.
_STREAM_KEEPALIVE: Final = (("grpc.keepalive_time_ms", 1_000), ("grpc.keepalive_timeout_ms", 2_000))

#: How gRPC words such an end: the system has ended the connection, or a ping was not answered.
_SILENT: Final = (os.strerror(errno.ETIMEDOUT), "ping timeout", "keepalive")

_CHANNEL_OPTIONS: Final = (
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # Each channel needs its own connection: a stream of frames must not share a flow-control window.
    ("grpc.use_local_subchannel_pool", 1),
    # Workers are dialled by address; a proxy from the environment is for destinations outside.
    ("grpc.enable_http_proxy", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
)

SERVER_OPTIONS: Final = (
    *_KEEPALIVE,
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", 500),
    # Otherwise two workers could bind the same port, and each would get some of the calls.
    ("grpc.so_reuseport", 0),
    # Time limit of the TLS and HTTP/2 handshakes.
    ("grpc.server_handshake_timeout_ms", 10_000),
    # Limit of a call's metadata: a token, or an error's fields.
    ("grpc.max_metadata_size", 16 << 10),
    ("grpc.absolute_max_metadata_size", 16 << 10),
    # Limit of concurrent calls per connection; a coordinator has one connection for control calls, and one
    # for each stream.
    ("grpc.max_concurrent_streams", 64),
)

#: Time limit for a stream's hello; until then an unknown caller holds a thread.
HELLO_TIMEOUT_S: Final = 10.0

#: How long `close` waits for the other side before it cuts the connection.
_CLOSE_GRACE_S: Final = 2.0

#: The first message of a frame, and the others, which are encoded when they are sent.
_Outgoing = tuple[bytes, Iterator[bytes]]


class _Outbox:
    """A queue of frames to send, as an iterator of messages that gRPC's sending thread consumes."""

    def __init__(self, peer: str) -> None:
        self._peer = peer
        self._queue: queue.SimpleQueue[_Outgoing | EdgeflowError | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._is_closed = False

    def put(self, frame: Frame) -> None:
        messages = encode(frame)
        first = next(messages)  # encode the header now, so that an invalid frame raises in the caller
        with self._lock:
            if self._is_closed:
                raise WorkerUnreachableError(f"the connection with {self._peer} has ended")
            self._queue.put((first, messages))

    def close(self, error: EdgeflowError | None = None) -> None:
        """End after the queued frames, with ``error`` if given."""
        with self._lock:
            if not self._is_closed:
                self._is_closed = True
                self._queue.put(error)

    def __iter__(self) -> Iterator[bytes]:
        """Yield messages until the outbox is closed; raise the error with which it was closed."""
        while True:
            item = self._queue.get()
            if item is None:
                return
            if isinstance(item, EdgeflowError):
                raise item
            first, rest = item
            yield first
            yield from rest


class _End:
    """One end of a connection: an outbox, and a thread that reads."""

    def __init__(self, peer: str) -> None:
        self.peer = peer
        self.outbox = _Outbox(peer)
        self._is_ours_to_end = False

    def send(self, frame: Frame) -> None:
        self.outbox.put(frame)

    @property
    def is_carrying(self) -> bool:
        return False  # gRPC does not tell

    def close(self) -> None:
        self._is_ours_to_end = True
        self.outbox.close()

    def read(self, messages: Iterator[bytes], decoder: Decoder, handler: Handler) -> None:
        """Deliver frames until the messages end; then tell the handler, unless this side has closed."""
        error: EdgeflowError | None = None
        fault: EdgeflowError | None = None
        try:
            for message in messages:
                frame = decoder.feed(message)
                if self._is_ours_to_end:
                    break
                if frame is not None:
                    handler.on_frame(frame)
            else:
                if decoder.is_mid_frame:
                    error = fault = CodecError(f"the connection with {self.peer} ended within a frame")
        except grpc.RpcError as failure:
            error = _reason(failure, self.peer)
        except EdgeflowError as failure:
            error = fault = failure
        except Exception:
            logger.exception("connection.failed", extra={"peer": self.peer})
            error = fault = WorkerUnreachableError(f"the connection with {self.peer} failed")
        self.end(fault)
        if not self._is_ours_to_end:
            handler.on_lost(error)

    def end(self, fault: EdgeflowError | None) -> None:
        """End this side; ``fault``, an error of the other side, becomes the status of the call."""
        self.outbox.close(fault)


def _reason(failure: grpc.RpcError, peer: str) -> EdgeflowError:
    """Return why a stream has ended; only gRPC's wording tells a silent link from other causes."""
    error = from_rpc_error(failure, where=peer)
    is_silent = type(error) is WorkerUnreachableError and any(words in str(error) for words in _SILENT)
    return LinkSilentError(str(error)) if is_silent else error


class _DialledEnd(_End):
    """The dialling end owns a channel with one call on it."""

    def __init__(
        self,
        address: str,
        hello: Hello,
        handler: Handler,
        max_payload_bytes: int,
        credentials: Credentials | None,
    ) -> None:
        super().__init__(address)
        self._hello = hello
        self._handler = handler
        self._max_payload_bytes = max_payload_bytes
        self._answer: queue.SimpleQueue[EdgeflowError | None] = queue.SimpleQueue()
        self._channel = open_channel(address, credentials, keepalive=_STREAM_KEEPALIVE)
        self._call: Any = None
        self._started_s = time.monotonic()
        self._thread = threading.Thread(target=self._run, name=f"edgeflow-read-{address}", daemon=True)

    def open(self, timeout_s: float) -> None:
        exchange = self._channel.stream_stream(
            f"/{SERVICE}/{METHOD}", request_serializer=None, response_deserializer=None
        )
        self.send(self._hello.frame())
        self._call = exchange(iter(self.outbox), wait_for_ready=True)
        self._thread.start()
        try:
            error = self._answer.get(timeout=timeout_s)
        except queue.Empty:
            error = WorkerUnreachableError(f"{self.peer} cannot be reached: no answer in {timeout_s:.1f} s")
        if error is not None:
            self.abandon()
            raise error

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def abandon(self) -> None:
        """Cut the connection without waiting for the other side."""
        self.close()
        if self._call is not None:
            self._call.cancel()
        self._join(None)
        self._channel.close()

    def finish(self, deadline_s: float) -> None:
        """Wait for the other side to end too, at most until ``deadline_s``; then cut."""
        self._join(max(0.0, deadline_s - time.monotonic()))
        self.abandon()

    def _join(self, timeout_s: float | None) -> None:
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            if Hello.of(decode(next(self._call))) != self._hello:
                raise CodecError(f"{self.peer} answers another hello than the one sent")
        except grpc.RpcError as failure:
            waited_s = time.monotonic() - self._started_s
            self._answer.put(from_rpc_error(failure, where=self.peer, waited_s=waited_s))
            return
        except StopIteration:
            self._answer.put(
                WorkerUnreachableError(f"{self.peer} ended the connection before its first frame")
            )
            return
        except EdgeflowError as error:
            self._answer.put(error)
            return
        self._answer.put(None)
        decoder = Decoder(max_payload_bytes=self._max_payload_bytes, admit=self._handler.admit)
        self.read(self._call, decoder, self._handler)
        self._channel.close()

    def end(self, fault: EdgeflowError | None) -> None:
        """End this side; a client cannot send a status, so ``fault`` cancels the call."""
        self.outbox.close()
        if fault is not None:
            self._call.cancel()


class Exchange:
    """The listening side: a generic handler that can be added to any gRPC server.

    Args:
        accept: Decides about incoming connections.
        max_payload_bytes: Limit of one frame.
        max_streams: Limit of concurrent streams; further ones are refused.
        hello_timeout_s: Time limit for a stream's hello.
    """

    def __init__(
        self,
        accept: Accept,
        *,
        max_payload_bytes: int = MAX_PAYLOAD_BYTES,
        max_streams: int = MAX_STREAMS,
        hello_timeout_s: float = HELLO_TIMEOUT_S,
    ) -> None:
        self._accept = accept
        self._hello_timeout_s = hello_timeout_s
        self._max_streams = max_streams
        self._max_payload_bytes = max_payload_bytes
        self._slots = threading.Semaphore(max_streams)
        self._ends: set[_End] = set()
        self._lock = threading.Lock()

    @property
    def handler(self) -> grpc.GenericRpcHandler[Any, Any]:
        method = grpc.stream_stream_rpc_method_handler(self._exchange)
        return grpc.method_handlers_generic_handler(SERVICE, {METHOD: method})

    def close(self) -> None:
        """End every connection, after its queued frames."""
        with self._lock:
            ends = tuple(self._ends)
        for end in ends:
            end.close()

    def _exchange(self, messages: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        if not self._slots.acquire(blocking=False):
            abort(context, WorkerOverloadedError(f"the worker carries {self._max_streams} streams already"))
        try:
            yield from self._serve(messages, context)
        finally:
            self._slots.release()

    def _serve(self, messages: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        end = _End(context.peer())
        with translated(context):
            hello = Hello.of(Decoder(max_payload_bytes=MAX_HELLO_BYTES).feed(self._first(messages, context)))
            handler = self._accept(hello, end)
        with self._lock:
            self._ends.add(end)
        decoder = Decoder(max_payload_bytes=self._max_payload_bytes, admit=handler.admit)
        reader = threading.Thread(
            target=end.read, args=(messages, decoder, handler), name=f"edgeflow-read-{end.peer}", daemon=True
        )
        reader.start()
        try:
            yield next(encode(hello.frame()))
            with translated(context):
                yield from end.outbox
        finally:
            # The end of this generator ends the call, and so the reader.
            end.outbox.close()
            with self._lock:
                self._ends.discard(end)

    def _first(self, messages: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        """Return the first message; cancel the call if it does not arrive in time, to free the thread."""
        impatient = threading.Timer(self._hello_timeout_s, context.cancel)
        impatient.daemon = True
        impatient.start()
        try:
            return next(messages, b"")
        except grpc.RpcError:
            # Either side has cancelled the call, so the other side does not see this error.
            raise CodecError(f"no hello in {self._hello_timeout_s:g} s") from None
        finally:
            impatient.cancel()


class _Listener:
    def __init__(
        self, address: str, server: grpc.Server, pool: ThreadPoolExecutor, exchange: Exchange
    ) -> None:
        self.address = address
        self._server = server
        self._pool = pool
        self._exchange = exchange

    def close(self) -> None:
        self._exchange.close()
        self._server.stop(_CLOSE_GRACE_S).wait()
        self._pool.shutdown(wait=False)


class GrpcTransport:
    """Dials gRPC servers that carry an `Exchange`."""

    name = "grpc"

    def __init__(
        self, credentials: Credentials | None = None, *, max_payload_bytes: int = MAX_PAYLOAD_BYTES
    ) -> None:
        self._credentials = credentials
        self._max_payload_bytes = max_payload_bytes
        self._ends: list[_DialledEnd] = []

    def listen(self, bind: str, accept: Accept) -> _Listener:
        exchange = Exchange(accept, max_payload_bytes=self._max_payload_bytes)
        pool = ThreadPoolExecutor(MAX_STREAMS + 1, thread_name_prefix="edgeflow-exchange")
        server = grpc.server(pool, options=SERVER_OPTIONS)
        server.add_generic_rpc_handlers((exchange.handler,))
        address = bind_server(server, bind or "127.0.0.1:0", self._credentials)
        server.start()
        return _Listener(address, server, pool, exchange)

    def dial(self, address: str, hello: Hello, handler: Handler, *, timeout_s: float) -> Connection:
        end = _DialledEnd(address, hello, handler, self._max_payload_bytes, self._credentials)
        end.open(timeout_s)
        self._ends = [other for other in self._ends if other.is_alive] + [end]
        return end

    def close(self) -> None:
        deadline_s = time.monotonic() + _CLOSE_GRACE_S
        for end in self._ends:
            end.close()
        for end in self._ends:
            end.finish(deadline_s)
        self._ends.clear()


def open_channel(
    address: str, credentials: Credentials | None, *, keepalive: Iterable[tuple[str, int]] = _KEEPALIVE
) -> grpc.Channel:
    """Return a channel to ``HOST:PORT``, unencrypted without credentials.

    Addresses come from files and from other machines, so they are always resolved as host names: gRPC would
    open ``unix:docker.sock`` as a socket of this machine.
    """
    target = f"dns:///{address}"
    options = (*keepalive, *_CHANNEL_OPTIONS)
    if credentials is None:
        return grpc.insecure_channel(target, options=options)
    return grpc.secure_channel(target, credentials.channel_credentials(), options=options)


def bind_server(
    server: grpc.Server | grpc.aio.Server, bind: str, credentials: Credentials | None = None
) -> str:
    """Bind ``HOST:PORT``, and return it with the actual port in place of 0.

    Raises:
        ConfigError: If the address is malformed, in use, or not an address of this machine.
    """
    host, _ = split_bind(bind)
    bound = 0
    with contextlib.suppress(RuntimeError):
        if credentials is None:
            bound = server.add_insecure_port(bind)
        else:
            bound = server.add_secure_port(bind, credentials.server_credentials())
    if bound == 0:
        raise ConfigError(f"cannot listen at {bind}: it is in use, or not an address of this machine")
    return join_address(host, bound)
