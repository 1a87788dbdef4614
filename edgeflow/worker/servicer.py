"""Translates between protobuf messages and `Worker`, and does nothing else."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Mapping
from typing import Final

import grpc

from edgeflow._proto.edgeflow.v1 import worker_pb2 as pb
from edgeflow._proto.edgeflow.v1 import worker_pb2_grpc
from edgeflow.errors import CodecError
from edgeflow.kernels import available_executors
from edgeflow.net.content import Content
from edgeflow.net.rpc_errors import translated
from edgeflow.net.wire import CHUNK_BYTES, PROTOCOL_VERSION
from edgeflow.worker.allowlist import ALLOWED_NAMES
from edgeflow.worker.check import decode_program
from edgeflow.worker.state import Phase
from edgeflow.worker.worker import Chunk, Preparation, Worker, peak_memory_bytes

_PHASES: Final = {
    Phase.PREPARED: pb.EPOCH_PHASE_PREPARED,
    Phase.READY: pb.EPOCH_PHASE_READY,
    Phase.COMMITTED: pb.EPOCH_PHASE_COMMITTED,
    Phase.DRAINING: pb.EPOCH_PHASE_DRAINING,
}

#: A call without a deadline gets this one.
_DEFAULT_TIMEOUT_S: Final = 60.0

#: Dialling stops so much before the caller's deadline, so that the caller receives the reason.
_MARGIN_S: Final = 0.5


class WorkerServicer(worker_pb2_grpc.WorkerServicer):
    """The `Worker` service."""

    def __init__(
        self, worker: Worker, *, name: str, version: str, num_threads: int, data_ports: Mapping[str, int]
    ) -> None:
        self._worker = worker
        self._name = name
        self._version = version
        self._num_threads = num_threads
        self._data_ports = data_ports

    def Describe(self, request: pb.DescribeRequest, context: grpc.ServicerContext) -> pb.DescribeResponse:
        with translated(context):
            mine = self._worker.executor.name
            return pb.DescribeResponse(
                name=self._name,
                version=self._version,
                protocol_version=PROTOCOL_VERSION,
                executors=[mine, *(other for other in available_executors() if other != mine)],
                num_threads=self._num_threads,
                memory_limit_bytes=self._worker.memory_limit_bytes,
                operators=sorted(ALLOWED_NAMES),
                speed=self._worker.speed,
                epochs=[
                    pb.EpochStatus(
                        epoch=status.epoch,
                        phase=_PHASES[status.phase],
                        rank=status.rank,
                        num_active_requests=status.num_active_requests,
                        reserved_bytes=status.reserved_bytes,
                    )
                    for status in self._worker.status()
                ],
                monotonic_s=time.monotonic(),
                data_ports=self._data_ports,
            )

    def Prepare(self, request: pb.PrepareRequest, context: grpc.ServicerContext) -> pb.PrepareResponse:
        with translated(context):
            missing = self._worker.prepare(
                Preparation(
                    epoch=request.epoch,
                    fingerprint=request.plan_fingerprint,
                    rank=request.rank,
                    program=decode_program(request.program_json),
                    peers=dict(request.peers),
                    contents=tuple(
                        Content(weight.content_hash, weight.dtype, tuple(weight.shape))
                        for weight in request.weights
                    ),
                    key=request.epoch_key,
                )
            )
            return pb.PrepareResponse(missing=missing)

    def LoadWeights(
        self, request_iterator: Iterator[pb.LoadWeightsRequest], context: grpc.ServicerContext
    ) -> pb.LoadWeightsResponse:
        with translated(context):
            started_s = time.monotonic()
            first = next(request_iterator, None)
            if first is None:
                raise CodecError("weights: the first message, with the epoch, is missing")
            rest = itertools.chain([first] if first.data else [], request_iterator)
            received = self._worker.load(first.epoch, map(_chunk, rest))
            return pb.LoadWeightsResponse(received_bytes=received, elapsed_s=time.monotonic() - started_s)

    def Commit(self, request: pb.CommitRequest, context: grpc.ServicerContext) -> pb.CommitResponse:
        with translated(context):
            remaining_s = context.time_remaining()
            timeout_s = _DEFAULT_TIMEOUT_S if remaining_s is None else max(0.1, remaining_s - _MARGIN_S)
            self._worker.commit(request.epoch, timeout_s=min(timeout_s, _DEFAULT_TIMEOUT_S))
            return pb.CommitResponse()

    def Abort(self, request: pb.AbortRequest, context: grpc.ServicerContext) -> pb.AbortResponse:
        with translated(context):
            self._worker.abort(request.epoch)
            return pb.AbortResponse()

    def Release(self, request: pb.ReleaseRequest, context: grpc.ServicerContext) -> pb.ReleaseResponse:
        with translated(context):
            self._worker.release(request.epoch)
            return pb.ReleaseResponse()

    def Report(self, request: pb.ReportRequest, context: grpc.ServicerContext) -> pb.ReportResponse:
        with translated(context):
            records, num_dropped = self._worker.report(request.epoch, min_request_id=request.min_request_id)
            return pb.ReportResponse(
                requests=[
                    pb.RequestRecord(
                        request_id=request_id,
                        instructions=[
                            pb.InstructionRecord(index=position, start_s=start_s, stop_s=stop_s)
                            for position, start_s, stop_s in instructions
                        ],
                    )
                    for request_id, instructions in records
                ],
                peak_memory_bytes=peak_memory_bytes(),
                num_dropped=num_dropped,
            )

    def Ping(self, request: pb.PingRequest, context: grpc.ServicerContext) -> pb.PingResponse:
        with translated(context):
            num_active = self._worker.ping(request.epochs)
            return pb.PingResponse(instance=self._worker.instance, num_active_requests=num_active)

    def Probe(self, request: pb.ProbeRequest, context: grpc.ServicerContext) -> pb.ProbeResponse:
        with translated(context):
            return pb.ProbeResponse(seconds=self._worker.probe(request.duration_s))


def _chunk(message: pb.LoadWeightsRequest) -> Chunk:
    if len(message.data) > CHUNK_BYTES:
        raise CodecError(f"weights: a chunk of {len(message.data):,} bytes, at most {CHUNK_BYTES:,}")
    return Chunk(message.content_hash, message.offset_bytes, message.data)
