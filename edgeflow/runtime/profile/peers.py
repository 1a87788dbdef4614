"""The network to running workers, measured with the call that every worker answers: `Describe`.

Latency is half of the shortest round trip. For the bandwidth the same call carries padding, as a field that
the worker does not know and so ignores. Only the way there is measured; it includes what gRPC costs on both
sides.
"""

from __future__ import annotations

import statistics
import time
from typing import Final

import grpc

from edgeflow._proto.edgeflow.v1 import worker_pb2 as pb
from edgeflow.cost.profile_file import PeerLink
from edgeflow.errors import WorkerUnreachableError
from edgeflow.runtime.rpc_errors import from_rpc_error
from edgeflow.runtime.security import Access
from edgeflow.runtime.transport.grpc_ import open_channel

_METHOD: Final = "/edgeflow.v1.Worker/Describe"
_NUM_PINGS: Final = 15
_NUM_BLASTS: Final = 5
_FIRST_PADDING: Final = 64 << 10
_MAX_PADDING: Final = 16 << 20
#: Padding grows until it takes this long, so that latency does not count.
_LONG_ENOUGH_S: Final = 0.2

#: An unknown field: number 1000, length-delimited (protobuf's wire type 2).
_UNKNOWN_FIELD: Final = bytes(((1000 << 3 | 2) & 0x7F | 0x80, (1000 << 3 | 2) >> 7))


def measure_peer(address: str, *, timeout_s: float = 5.0, access: Access | None = None) -> PeerLink:
    """Measure the way to one worker.

    Args:
        access: What is shown to it.

    Raises:
        WorkerUnreachableError: If it does not answer within ``timeout_s``.
    """
    access = access or Access()
    channel = open_channel(address, access.credentials)
    try:
        call = channel.unary_unary(_METHOD, request_serializer=None, response_deserializer=None)

        def seconds(payload: bytes, *, wait: bool = False) -> tuple[float, bytes]:
            start = time.perf_counter()
            answer = call(payload, timeout=timeout_s, wait_for_ready=wait, metadata=access.metadata)
            return time.perf_counter() - start, answer

        _, answer = seconds(b"", wait=True)
        round_trip_s = min(seconds(b"")[0] for _ in range(_NUM_PINGS))
        size = _FIRST_PADDING
        while seconds(padding(size))[0] < _LONG_ENOUGH_S and size < _MAX_PADDING:
            size *= 4
        taken_s = statistics.median(seconds(padding(size))[0] for _ in range(_NUM_BLASTS))
    except grpc.RpcError as error:
        failure = from_rpc_error(error, where=f"worker {address}", waited_s=timeout_s)
        raise WorkerUnreachableError(f"{address} cannot be measured: {failure}") from error
    finally:
        channel.close()
    return PeerLink(
        address=address,
        name=pb.DescribeResponse.FromString(answer).name,
        latency_s=round_trip_s / 2,
        bandwidth_bytes_per_s=size / max(1e-9, taken_s - round_trip_s),
        method="gRPC Describe: half of the shortest round trip; padding, one way",
    )


def padding(size: int) -> bytes:
    """A request of about ``size`` bytes that says nothing."""
    length = bytearray()
    rest = size
    while rest > 0x7F:
        length.append(rest & 0x7F | 0x80)
        rest >>= 7
    length.append(rest)
    return _UNKNOWN_FIELD + bytes(length) + bytes(size)
