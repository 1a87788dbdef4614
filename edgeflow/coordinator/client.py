"""The control plane over gRPC: one `WorkerClient` per worker, which raises edgeflow's errors."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import grpc

from edgeflow._proto.edgeflow.v1 import worker_pb2 as pb
from edgeflow._proto.edgeflow.v1 import worker_pb2_grpc
from edgeflow.coordinator.control import Description, Pong, Report
from edgeflow.errors import DeadlineExceededError, WorkerFailedError, WorkerUnreachableError
from edgeflow.graph.ir import Array
from edgeflow.net.content import Content
from edgeflow.net.rpc_errors import from_rpc_error
from edgeflow.net.security import Access
from edgeflow.net.transport.grpc_ import open_channel
from edgeflow.net.wire import CHUNK_BYTES, PROTOCOL_VERSION, byte_view
from edgeflow.plan.program import Program, encode

#: Round trips that the estimate of a clock's offset is chosen from.
_NUM_PINGS: Final = 5

_UNDOING: Final = ("Abort", "Release")


class WorkerClient:
    """Calls one worker; see `edgeflow.coordinator.control.Control` for what its methods do.

    Args:
        address: ``HOST:PORT``.
        rank: Its rank in the plan, for messages.
        access: Certificates and join token to show.
    """

    def __init__(self, address: str, rank: int, access: Access | None = None) -> None:
        self.address = address
        self.where = f"worker {address} (rank {rank})"
        access = access or Access()
        self._channel = open_channel(address, access.credentials)
        self._metadata = access.metadata
        self._stub = worker_pb2_grpc.WorkerStub(self._channel)
        self._lock = threading.Lock()
        self._under_way: Any = None
        self._is_given_up = False

    def describe(self, *, timeout_s: float) -> Description:
        try:
            self._call("Describe", pb.DescribeRequest(), timeout_s, wait_for_ready=True)
        except DeadlineExceededError as error:
            raise WorkerUnreachableError(
                f"{self.where} cannot be reached: no answer in {timeout_s:.1f} s"
            ) from error
        pings = [self._ping(timeout_s) for _ in range(_NUM_PINGS)]
        round_trip_s, offset_s, said = min(pings, key=lambda ping: ping[0])
        if said.protocol_version != PROTOCOL_VERSION:
            raise WorkerFailedError(
                f"{self.where} (edgeflow {said.version}) speaks version {said.protocol_version} of the frame "
                f"format, this side version {PROTOCOL_VERSION}"
            )
        return Description(
            name=said.name,
            version=said.version,
            executor=next(iter(said.executors), ""),
            num_threads=said.num_threads,
            memory_limit_bytes=said.memory_limit_bytes,
            clock_offset_s=offset_s,
            round_trip_s=round_trip_s,
            data_ports=dict(said.data_ports),
        )

    def held_epochs(self, *, timeout_s: float) -> tuple[int, ...]:
        return tuple(item.epoch for item in self._call("Describe", pb.DescribeRequest(), timeout_s).epochs)

    def prepare(
        self,
        epoch: int,
        program: Program,
        *,
        fingerprint: str,
        peers: Mapping[int, str],
        contents: Iterable[Content],
        key: bytes,
        timeout_s: float,
    ) -> tuple[str, ...]:
        request = pb.PrepareRequest(
            epoch=epoch,
            plan_fingerprint=fingerprint,
            rank=program.rank,
            program_json=encode(program),
            peers=dict(peers),
            weights=[
                pb.WeightContent(content_hash=c.content_hash, dtype=c.dtype, shape=c.shape) for c in contents
            ],
            epoch_key=key,
        )
        return tuple(self._call("Prepare", request, timeout_s).missing)

    def load(self, epoch: int, slices: Iterable[tuple[Content, Array]], *, timeout_s: float) -> None:
        self._call("LoadWeights", _messages(epoch, slices), timeout_s)

    def commit(self, epoch: int, *, timeout_s: float) -> None:
        self._call("Commit", pb.CommitRequest(epoch=epoch), timeout_s)

    def abort(self, epoch: int, *, timeout_s: float) -> None:
        self._call("Abort", pb.AbortRequest(epoch=epoch), timeout_s)

    def release(self, epoch: int, *, timeout_s: float) -> None:
        self._call("Release", pb.ReleaseRequest(epoch=epoch), timeout_s)

    def report(self, epoch: int, *, min_request_id: int, timeout_s: float) -> Report:
        request = pb.ReportRequest(epoch=epoch, min_request_id=min_request_id)
        answer = self._call("Report", request, timeout_s)
        return Report(
            {
                record.request_id: [(item.index, item.start_s, item.stop_s) for item in record.instructions]
                for record in answer.requests
            },
            answer.peak_memory_bytes,
        )

    def ping(self, epochs: Iterable[int], *, timeout_s: float) -> Pong:
        answer = self._call("Ping", pb.PingRequest(epochs=epochs), timeout_s)
        return Pong(answer.instance, answer.num_active_requests)

    def probe(self, duration_s: float, *, timeout_s: float) -> float:
        return float(self._call("Probe", pb.ProbeRequest(duration_s=duration_s), timeout_s).seconds)

    def cancel(self) -> None:
        with self._lock:
            self._is_given_up = True
            if self._under_way is not None:
                self._under_way.cancel()

    def close(self) -> None:
        self._channel.close()

    def _ping(self, timeout_s: float) -> tuple[float, float, Any]:
        """Return the round trip, the offset of the worker's clock, and the answer."""
        start_s = time.monotonic()
        answer = self._call("Describe", pb.DescribeRequest(), timeout_s)
        stop_s = time.monotonic()
        return stop_s - start_s, answer.monotonic_s - (start_s + stop_s) / 2, answer

    def _call(self, method: str, request: Any, timeout_s: float, *, wait_for_ready: bool = False) -> Any:
        start_s = time.monotonic()
        with self._lock:
            if self._is_given_up and method not in _UNDOING:
                raise WorkerUnreachableError(f"{self.where}: the call was given up")
            call = getattr(self._stub, method).future
            self._under_way = future = call(
                request, timeout=timeout_s, wait_for_ready=wait_for_ready, metadata=self._metadata
            )
        try:
            return future.result()
        except grpc.FutureCancelledError as error:
            raise WorkerUnreachableError(f"{self.where}: the call was given up") from error
        except grpc.RpcError as error:
            waited_s = time.monotonic() - start_s
            raise from_rpc_error(error, where=self.where, waited_s=waited_s) from error
        finally:
            with self._lock:
                self._under_way = None


def _messages(epoch: int, slices: Iterable[tuple[Content, Array]]) -> Iterator[pb.LoadWeightsRequest]:
    yield pb.LoadWeightsRequest(epoch=epoch)
    for content, array in slices:
        data = memoryview(byte_view(array))  # type: ignore[arg-type]  # numpy's stubs
        for offset in range(0, max(1, len(data)), CHUNK_BYTES):
            yield pb.LoadWeightsRequest(
                epoch=epoch,
                content_hash=content.content_hash,
                offset_bytes=offset,
                data=bytes(data[offset : offset + CHUNK_BYTES]),
            )
