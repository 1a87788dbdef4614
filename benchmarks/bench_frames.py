"""What a frame costs between two processes on this machine: a bare socket, tcp, grpc, and through a worker.

Round trips of one frame there and back, one at a time. The ways are taken in turn, block after block, so that
whatever else the machine does meets all of them alike. ``worker`` is tcp to a worker whose program receives
the frame and sends it back: what it takes beyond ``tcp`` is what a worker does for one receive and one send.
"""

from __future__ import annotations

import itertools
import multiprocessing
import queue
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any, cast

import numpy as np
from result import Result

from edgeflow.errors import EdgeflowError
from edgeflow.graph.ir import Array
from edgeflow.kernels.base import Executor
from edgeflow.net.transport.base import Connection, Hello, Transport
from edgeflow.net.transport.grpc_ import GrpcTransport
from edgeflow.net.transport.tcp import TcpTransport
from edgeflow.net.wire import Frame, Header, Kind
from edgeflow.plan.program import CLIENT, Buffer, Free, Program, Receive, Send
from edgeflow.rank.pages import PagePool
from edgeflow.sharding.region import Region
from edgeflow.worker.weights import WeightCache
from edgeflow.worker.worker import Preparation, Worker

SIZES = (64, 1 << 10, 1 << 14, 1 << 16, 1 << 18, 1 << 20, 1 << 22, 1 << 24)
WAYS = ("socket", "tcp", "worker", "grpc")

BLOCKS = 7
_TIMEOUT_S = 20.0
#: Round trips per block: fewer for large frames.
_BLOCK_BYTES = 64 << 20
_MOST_TRIPS = 60

RoundTrip = Callable[[Array], None]


def run(seed: int) -> Iterator[Result]:
    rng = np.random.default_rng(seed)
    with ExitStack() as stack:
        trips = {way: _open(way, stack) for way in WAYS}
        for size in SIZES:
            array = rng.integers(0, 255, size, dtype=np.uint8)
            blocks: dict[str, list[float]] = {way: [] for way in WAYS}
            for _ in range(BLOCKS):
                for way, trip in trips.items():
                    blocks[way].append(_median_us(trip, array))
            yield _result(size, blocks, seed)


def _result(size: int, blocks: Mapping[str, list[float]], seed: int) -> Result:
    values: dict[str, float] = {"num_bytes": float(size)}
    for way, us in blocks.items():
        values |= {f"{way}_us": statistics.median(us), f"{way}_min_us": min(us), f"{way}_max_us": max(us)}
    for way in WAYS[1:]:
        values[f"{way}_ratio"] = values[f"{way}_us"] / values["socket_us"]
    return Result(
        benchmark="frames",
        case=f"{size:,} bytes, there and back",
        values=values,
        settings={"blocks": BLOCKS, "trips": _num_trips(size), "of_each_block": "median"},
        seed=seed,
    )


def _num_trips(size: int) -> int:
    return max(4, min(_MOST_TRIPS, _BLOCK_BYTES // size))


def _median_us(trip: RoundTrip, array: Array) -> float:
    trip(array)  # does not count: sizes change between blocks
    seconds = []
    for _ in range(_num_trips(array.nbytes)):
        start = time.perf_counter()
        trip(array)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds) * 1e6


def _open(way: str, stack: ExitStack) -> RoundTrip:
    """Start the process at the other end; return a function that makes one round trip."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(way, there), daemon=True)
    process.start()
    stack.callback(process.join)
    stack.callback(here.send, "end")
    address = here.recv()
    if way == "socket":
        return _bare(address, stack)
    transport = _transport(way)
    stack.callback(transport.close)
    inbox = _Inbox()
    # A worker has an epoch, and so a connection, for each size: the shapes of a program are fixed.
    connections = {
        size: transport.dial(address, Hello(epoch, CLIENT), inbox, timeout_s=_TIMEOUT_S)
        for epoch, size in enumerate(SIZES)
    }
    requests = itertools.count(1)

    def trip(array: Array) -> None:
        connections[array.nbytes].send(
            Frame(
                kind=Kind.TENSOR,
                epoch=SIZES.index(array.nbytes),
                source=CLIENT,
                request_id=next(requests),
                array=array,
            )
        )
        inbox.frames.get(timeout=_TIMEOUT_S)

    return trip


def _bare(address: str, stack: ExitStack) -> RoundTrip:
    host, _, port = address.rpartition(":")
    peer = stack.enter_context(socket.create_connection((host, int(port))))
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    back: dict[int, memoryview] = {}

    def trip(array: Array) -> None:
        target = back.setdefault(array.nbytes, memoryview(bytearray(array.nbytes)))
        peer.sendall(array.nbytes.to_bytes(8, "little"))
        peer.sendall(memoryview(cast(Any, array)))
        _receive(peer, target)

    return trip


def _receive(peer: socket.socket, target: memoryview) -> None:
    while target:
        count = peer.recv_into(target)
        if count == 0:
            raise EOFError
        target = target[count:]


def _transport(way: str) -> Transport:
    return GrpcTransport() if way == "grpc" else TcpTransport(allocate=PagePool().empty)


class _Inbox:
    def __init__(self) -> None:
        self.frames: queue.SimpleQueue[Frame] = queue.SimpleQueue()

    def admit(self, header: Header) -> None:
        """Accept every frame."""

    def on_frame(self, frame: Frame) -> None:
        self.frames.put(frame)

    def on_lost(self, error: EdgeflowError | None) -> None:
        """The end; or a time-out that `trip` runs into."""


class _Echo(_Inbox):
    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self._connection = connection

    def on_frame(self, frame: Frame) -> None:
        self._connection.send(frame)


# The other process.


def _serve(way: str, pipe: Pipe) -> None:
    if way == "socket":
        _serve_bare(pipe)
        return
    transport = _transport(way)
    if way == "worker":
        _serve_worker(transport, pipe)
        return
    listener = transport.listen("", lambda hello, connection: _Echo(connection))
    pipe.send(listener.address)
    pipe.recv()
    listener.close()


def _serve_bare(pipe: Pipe) -> None:
    server = socket.create_server(("127.0.0.1", 0))
    pipe.send(f"127.0.0.1:{server.getsockname()[1]}")
    peer, _ = server.accept()
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sizes: dict[int, memoryview] = {}
    head = memoryview(bytearray(8))

    def echo() -> None:
        try:
            while True:
                _receive(peer, head)
                size = int.from_bytes(head, "little")
                target = sizes.setdefault(size, memoryview(bytearray(size)))
                _receive(peer, target)
                peer.sendall(target)
        except (EOFError, OSError):
            return

    threading.Thread(target=echo, daemon=True).start()
    pipe.recv()


def _serve_worker(transport: Transport, pipe: Pipe) -> None:
    pool = PagePool()
    with tempfile.TemporaryDirectory() as folder:
        worker = Worker(
            executor=cast(Executor, _NoExecutor()),
            transport=transport,
            cache=WeightCache(Path(folder)),
            memory_limit_bytes=1 << 30,
            pool=pool,
        )
        listener = TcpTransport(allocate=pool.empty).listen("", worker.accept)
        for epoch, size in enumerate(SIZES):
            program = _echo_program(size)
            worker.prepare(
                Preparation(epoch=epoch, fingerprint="", rank=0, program=program, peers={}, contents=())
            )
            worker.load(epoch, ())
            worker.commit(epoch, timeout_s=_TIMEOUT_S)
        pipe.send(listener.address)
        pipe.recv()
        worker.close()
        listener.close()


def _echo_program(size: int) -> Program:
    region = Region.full((size,))
    transfer: dict[str, Any] = {
        "buffer": 0,
        "tensor": "x",
        "region": region,
        "dtype": "uint8",
        "peer": CLIENT,
        "tag": 0,
        "stage": "echo",
    }
    return Program(
        rank=0,
        instructions=(Receive(**transfer), Send(**transfer), Free((0,))),
        buffers=(Buffer("x", region, "uint8"),),
        peak_bytes=size,
    )


class _NoExecutor:
    """The program computes nothing."""

    name = "none"

    def prepare(self, program: Program, weights: object) -> _NoExecutor:
        return self

    def compute(self, instruction_index: int, buffers: dict[int, Array]) -> None:
        raise AssertionError(f"instruction {instruction_index} computes")
