"""One worker over the memory transport, in virtual time; its client and its peer are played by hand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgeflow.errors import EdgeflowError
from edgeflow.graph.ir import Array
from edgeflow.kernels import Runnable
from edgeflow.net.content import Content, content_of
from edgeflow.net.proof import prove
from edgeflow.net.transport.base import Connection, Handler, Hello
from edgeflow.net.transport.memory import MemoryNetwork, MemoryTransport
from edgeflow.net.wire import Frame, Header, Kind, byte_view
from edgeflow.plan.program import CLIENT, Program
from edgeflow.testing.virtual import VirtualThreads
from edgeflow.worker.weights import WeightCache
from edgeflow.worker.worker import Chunk, Preparation, Worker

EPOCH = 7
KEY = bytes(range(32))
W = np.arange(12, dtype=np.float32).reshape(3, 4)
X = np.arange(8, dtype=np.float32).reshape(2, 4)
Y = np.full((2, 3), 100.0, np.float32)


class Linear:
    """A back end whose kernel is relu(x W^T + 1), for the weights that it is given."""

    name = "linear"

    def __init__(self) -> None:
        self.error: Exception | None = None

    def prepare(self, program: Program, weights: Mapping[Any, Array], hashes: Any = None) -> Runnable:
        (weight,) = weights.values()
        return _Runnable(self, weight)


class _Runnable:
    def __init__(self, executor: Linear, weight: Array) -> None:
        self._executor = executor
        self._weight = weight

    def compute(self, instruction_index: int, buffers: dict[int, Array]) -> None:
        if self._executor.error is not None:
            raise self._executor.error
        buffers[1] = np.maximum(buffers[0] @ self._weight.T + 1, 0).astype(np.float32)


class End:
    """One end of a connection with the worker, which keeps what arrives."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.lost: list[EdgeflowError | None] = []
        self.connection: Connection
        self.hello: Hello | None = None

    def admit(self, header: Header) -> None:
        pass

    def on_frame(self, frame: Frame) -> None:
        self.frames.append(frame)

    def on_lost(self, error: EdgeflowError | None) -> None:
        self.lost.append(error)

    def of(self, kind: Kind) -> list[Frame]:
        return [frame for frame in self.frames if frame.kind is kind]


class ByHand:
    """Rank 0 of `program` is a real worker; rank 1 and the client are played."""

    def __init__(self, program: Program, folder: Path, *, memory_limit_bytes: int = 10_000) -> None:
        self.threads = VirtualThreads()
        self.program = program
        self.network = MemoryNetwork(self.threads)
        self.executor = Linear()
        self.worker = Worker(
            executor=self.executor,
            transport=MemoryTransport(self.network),
            cache=WeightCache(folder),
            memory_limit_bytes=memory_limit_bytes,
            threads=self.threads,
        )
        self.transport = MemoryTransport(self.network)
        self.worker_listener = self.transport.listen("", self.worker.accept)
        self.client, self.peer = End(), End()
        self.peer_listener = self.transport.listen("", self._accept)
        self.content = content_of(W, dtype="float32")

    def _accept(self, hello: Hello, connection: Connection) -> Handler:
        self.peer.hello, self.peer.connection = hello, connection
        return self.peer

    def preparation(self, epoch: int = EPOCH, **fields: Any) -> Preparation:
        values: dict[str, Any] = {
            "epoch": epoch,
            "fingerprint": "f",
            "rank": 0,
            "program": self.program,
            "peers": {0: self.worker_listener.address, 1: self.peer_listener.address},
            "contents": (self.content,),
            "key": KEY,
            **fields,
        }
        return Preparation(**values)

    def chunks(self, content: Content | None = None, *, size: int = 20) -> Iterator[Chunk]:
        data = bytes(byte_view(W))
        for offset in range(0, len(data), size):
            yield Chunk((content or self.content).content_hash, offset, data[offset : offset + size])

    def open(self, epoch: int = EPOCH) -> None:
        """Bring the program onto the worker, and connect as its client."""
        missing = self.worker.prepare(self.preparation(epoch))
        self.worker.load(epoch, self.chunks() if missing else ())
        self.worker.commit(epoch, timeout_s=5.0)
        self.dial(epoch)

    def dial(self, epoch: int = EPOCH, *, rank: int = CLIENT, key: bytes = KEY) -> None:
        self.client.connection = self.transport.dial(
            self.worker_listener.address,
            prove(key, epoch, source=rank, target=0),
            self.client,
            timeout_s=1.0,
        )

    def send(self, end: End, request_id: int, *, epoch: int = EPOCH, **fields: Any) -> None:
        """Send what is due from the client or from the peer."""
        source, tag, array = (CLIENT, 0, X) if end is self.client else (1, 2, Y)
        values: dict[str, Any] = {
            "kind": Kind.TENSOR,
            "epoch": epoch,
            "source": source,
            "request_id": request_id,
            "tag": tag,
            "array": array,
            **fields,
        }
        end.connection.send(Frame(**values))
        self.threads.sleep(0.001)

    def close(self) -> None:
        self.worker.close()
        self.worker_listener.close()
        self.peer_listener.close()
        self.transport.close()
