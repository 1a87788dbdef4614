"""The network to running workers, measured over the way that plans use: TCP where it is offered, else gRPC.

The worker is handed a program, as one of a plan's, that takes a frame and sends back its first byte. Latency
is half of the round trip of a small frame, the median; for the bandwidth the frame grows until it takes long.
Before each small frame we are busy for a moment, as devices are between the frames of a request, so that both
sides' caches and threads are as cold as then. Only the way there is measured. What frames cost the processors
(system calls, checksums) is taken off where it is known, because plans count it apart; what wakes the
threads, and encryption where certificates are shown, stays in.
"""

from __future__ import annotations

import itertools
import queue
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Final

import numpy as np

from edgeflow.cluster.profile import MessageCost
from edgeflow.coordinator.client import WorkerClient
from edgeflow.cost.profile_file import PeerLink
from edgeflow.errors import CodecError, EdgeflowError, WorkerUnreachableError
from edgeflow.measure.frames import displacer
from edgeflow.net.proof import new_epoch, new_key, prove
from edgeflow.net.rpc_errors import decode_description, rebuild
from edgeflow.net.security import Access
from edgeflow.net.transport.grpc_ import GrpcTransport
from edgeflow.net.transport.routes import Route, RoutedTransport, choose_routes, format_routes
from edgeflow.net.transport.tcp import TcpTransport
from edgeflow.net.wire import Frame, Header, Kind
from edgeflow.plan.program import CLIENT, Buffer, Program, Receive, Send
from edgeflow.sharding.region import Region
from edgeflow.units import format_bytes

_NUM_PINGS: Final = 15
_NUM_BLASTS: Final = 5
_PING_BYTES: Final = 1
_FIRST_BYTES: Final = 64 << 10
_MAX_BYTES: Final = 16 << 20
#: Frames grow until one takes this long, so that latency does not count.
_LONG_ENOUGH_S: Final = 0.2
#: Least share of a duration that is the network's, however much frames cost.
_LEAST_LEFT: Final = 0.1

_RANK: Final = 0
_NAMES: Final = {"tcp": "TCP", "grpc": "gRPC"}

#: Sends a frame, waits for the answer, returns how many seconds that took.
_Exchange = Callable[[], float]


def measure_peer(
    address: str,
    *,
    timeout_s: float = 5.0,
    transport: str = "auto",
    access: Access | None = None,
    message: MessageCost | None = None,
) -> PeerLink:
    """Measure the network to one worker.

    Args:
        timeout_s: Deadline of each call and of each frame.
        transport: Transport of the frames; see `edgeflow.net.transport.routes`.
        access: Certificates and join token to show to it.
        message: Processor cost of frames here; the worker's is assumed to be equal.

    Raises:
        WorkerUnreachableError: If it does not answer within ``timeout_s``.
        ConfigError: If it does not offer ``transport``.
        ClusterError: If it refuses.
    """
    access = access or Access()
    credentials = access.credentials
    with (
        closing(WorkerClient(address, _RANK, access)) as client,
        closing(RoutedTransport((TcpTransport(credentials), GrpcTransport(credentials)))) as network,
    ):
        said = client.describe(timeout_s=timeout_s)
        routes = choose_routes({_RANK: address}, {_RANK: said.data_ports}, transport)[_RANK]
        with _answering(client, network, routes, _PING_BYTES, timeout_s) as (route, exchange):
            exchange()
            round_trip_s = _ping(exchange)
        size, taken_s = _measure_blast(client, network, format_routes([route]), timeout_s)
    frame_s = message.send_s + message.receive_s if message else 0.0
    byte_s = message.send_s_per_byte + message.receive_s_per_byte if message else 0.0
    under = " under TLS" if credentials else ""
    return PeerLink(
        address=address,
        name=said.name,
        latency_s=_less(round_trip_s / 2, frame_s),
        bandwidth_bytes_per_s=size / _less(max(1e-9, taken_s - round_trip_s), size * byte_s),
        method=f"{_NAMES[route.transport]}{under}: half of the median round trip of a frame; "
        f"frames of {format_bytes(size)}, one way",
    )


def _ping(exchange: _Exchange) -> float:
    """Return the median round trip, with caches displaced before each."""
    displace = displacer()
    seconds = []
    for _ in range(_NUM_PINGS):
        displace()
        seconds.append(exchange())
    return statistics.median(seconds)


def _less(seconds: float, known_s: float) -> float:
    """Return a duration less a known part, and at least a share of it: on one host little may remain."""
    return max(seconds - known_s, _LEAST_LEFT * seconds)


def _measure_blast(
    client: WorkerClient, network: RoutedTransport, routes: str, timeout_s: float
) -> tuple[int, float]:
    """Return the size of a frame that takes long enough, or the largest, and the seconds that it takes."""
    size = _FIRST_BYTES
    while True:
        with _answering(client, network, routes, size, timeout_s) as (_, exchange):
            # The first one may also make the buffers.
            if exchange() >= _LONG_ENOUGH_S or size >= _MAX_BYTES:
                return size, statistics.median(exchange() for _ in range(_NUM_BLASTS))
        size *= 4


@contextmanager
def _answering(
    client: WorkerClient, network: RoutedTransport, routes: str, size: int, timeout_s: float
) -> Iterator[tuple[Route, _Exchange]]:
    """Make the worker answer frames of ``size`` bytes, for the time; yield the way there, and an exchange."""
    epoch, key, program = new_epoch(), new_key(), _program(size)
    array = np.ones(size, np.uint8)  # not zeros: those would be one page, over and over
    answers = _Answers(client.where)
    numbers = itertools.count(1)
    with ExitStack() as stack:
        stack.callback(_forget, client, epoch, timeout_s)
        client.prepare(
            epoch, program, fingerprint="profile", peers={}, contents=(), key=key, timeout_s=timeout_s
        )
        client.load(epoch, (), timeout_s=timeout_s)
        client.commit(epoch, timeout_s=timeout_s)
        hello = prove(key, epoch, source=CLIENT, target=_RANK)
        route, connection = network.connect(routes, hello, answers, timeout_s=timeout_s)
        stack.callback(connection.close)

        def exchange() -> float:
            frame = Frame(kind=Kind.TENSOR, epoch=epoch, source=CLIENT, request_id=next(numbers), array=array)
            start_s = time.perf_counter()
            connection.send(frame)
            answers.wait(timeout_s)
            return time.perf_counter() - start_s

        yield route, exchange


def _forget(client: WorkerClient, epoch: int, timeout_s: float) -> None:
    """Remove the program from the worker; a worker that has gone drops it by itself."""
    try:
        client.abort(epoch, timeout_s=timeout_s)
    except EdgeflowError:
        # The measurement, or an earlier error, matters more.
        return


def _program(size: int) -> Program:
    """Return a program that receives ``size`` bytes and sends back the first."""
    whole = Region.full((size,))
    return Program(
        rank=_RANK,
        instructions=(
            Receive(buffer=0, tensor="x", region=whole, dtype="uint8", peer=CLIENT, tag=0, stage="profile"),
            Send(
                buffer=0,
                tensor="x",
                region=Region.full((1,)),
                dtype="uint8",
                peer=CLIENT,
                tag=0,
                stage="profile",
            ),
        ),
        buffers=(Buffer("x", whole, "uint8"),),
        peak_bytes=size,
    )


class _Answers:
    """Answers of a worker, or the error that ended them."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._arrived: queue.SimpleQueue[Frame | EdgeflowError] = queue.SimpleQueue()

    def wait(self, timeout_s: float) -> None:
        """Wait for the next answer.

        Raises:
            WorkerUnreachableError: If none comes in time, or the connection has ended.
            EdgeflowError: The failure that the worker reports.
        """
        try:
            found = self._arrived.get(timeout=timeout_s)
        except queue.Empty:
            raise WorkerUnreachableError(f"{self._where}: a frame had no answer in {timeout_s:g} s") from None
        if isinstance(found, EdgeflowError):
            raise found
        if found.kind is Kind.FAILURE:
            raise rebuild(decode_description(found.array.tobytes()), where=self._where)

    def admit(self, header: Header) -> None:
        is_answer = header.kind is Kind.TENSOR and header.num_bytes == 1
        if not is_answer and header.kind is not Kind.FAILURE:
            raise CodecError(
                f"{self._where} sent {header.num_bytes:,} bytes of a {header.kind.name}, not one"
            )

    def on_frame(self, frame: Frame) -> None:
        self._arrived.put(frame)

    def on_lost(self, error: EdgeflowError | None) -> None:
        self._arrived.put(error or WorkerUnreachableError(f"{self._where} has closed the connection"))
