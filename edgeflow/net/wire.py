"""The frame format of the data plane: a fixed header, the shape, the raw payload.

A frame carries a region of a tensor, or a short notice (hello, failure, cancel), from one rank to another.

    offset  size  field
    0       4     magic ``EFLW``
    4       1     protocol version
    5       1     kind
    6       1     dtype code
    7       1     ndim
    8       8     epoch, unsigned
    16      8     request id, unsigned
    24      4     tag, unsigned
    28      4     source rank, signed (the client is -1)
    32      8     payload length in bytes, unsigned
    40      4     XXH3 of the payload: the low 32 of its 64 bits
    44      4     CRC-32 of the header: of the bytes before this field, then of the shape
    48      8*n   shape, unsigned
    ...           payload, row-major, little-endian

Everything is little-endian. The checksums detect corrupted frames: TCP's checksum of 16 bits misses one in
65,536 broken segments, and does not cover errors in a machine's memory. The payload's checksum is XXH3, which
runs at memory speed; zlib's CRC-32 took half as long as the system takes to send.

A frame travels as one or more messages: the first begins with the header, the others only continue the
payload (`encode`), so that no message carries more than `CHUNK_BYTES` of payload. `Decoder` joins them again.
The bytes come from other machines, so every field is checked before anything is allocated, and every
malformed one raises `CodecError`.
"""

from __future__ import annotations

import enum
import math
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Final

import msgspec
import numpy as np
import xxhash

from edgeflow.errors import CodecError
from edgeflow.graph.ir import NUMPY_DTYPES, Array

MAGIC: Final = b"EFLW"
PROTOCOL_VERSION: Final = 3

#: Payload bytes per message. Measured over gRPC: 64 KiB costs a third of the rate, 4 MiB and above half.
CHUNK_BYTES: Final = 1 << 20

#: Limit of a frame's payload; a connection may set a lower one.
MAX_PAYLOAD_BYTES: Final = 1 << 32

#: Limit of a notice's payload.
MAX_NOTICE_BYTES: Final = 1 << 16

MAX_NDIM: Final = 16

#: Limit of the product of a shape's non-zero dims, because numpy counts bytes in 63 bits.
_MAX_EXTENT: Final = 1 << 59

_FIXED: Final = struct.Struct("<4sBBBBQQIiQI")
_SUM: Final = struct.Struct("<I")
_FIXED_BYTES: Final = _FIXED.size + _SUM.size
_NDIM_OFFSET: Final = 7
_SHAPES: Final = tuple(struct.Struct(f"<{ndim}Q") for ndim in range(MAX_NDIM + 1))

#: Length of the longest header.
MAX_HEADER_BYTES: Final = _FIXED_BYTES + 8 * MAX_NDIM

#: Code of each dtype on the wire; codes are never reused.
_DTYPE_CODES: Final[dict[str, int]] = {
    "float32": 1,
    "float64": 2,
    "float16": 3,
    "bfloat16": 4,
    "int64": 5,
    "int32": 6,
    "int16": 7,
    "int8": 8,
    "uint8": 9,
    "bool": 10,
}
_DTYPE_NAMES: Final = {code: name for name, code in _DTYPE_CODES.items()}
_CODE_OF_NUMPY: Final = {NUMPY_DTYPES[name]: code for name, code in _DTYPE_CODES.items()}


class Kind(enum.IntEnum):
    """Kind of a frame."""

    #: First frame of a connection: epoch and rank of the dialling side. Sent back unchanged to accept it.
    HELLO = 1
    #: A region of a tensor, identified by source rank and tag.
    TENSOR = 2
    #: From a worker to the client: the request failed; the payload describes the error.
    FAILURE = 3
    #: From the client to the workers: drop the request.
    CANCEL = 4
    #: Last frame of a connection, for transports without an end notice: empty, or the reason of the end.
    GOODBYE = 5
    #: Liveness check, for transports without one: tag 0 asks, tag 1 answers.
    PING = 6


_KINDS: Final = {kind.value: kind for kind in Kind}
_EMPTY: Final = np.empty(0, np.uint8)


class Frame(msgspec.Struct, frozen=True, kw_only=True, eq=False, gc=False):
    """A message from one rank to another.

    Attributes:
        kind: What the payload means.
        epoch: Epoch that it belongs to.
        source: Rank of the sender.
        request_id: Request that it belongs to; 0 in a hello.
        tag: Transfer of the plan; with the sender it names a frame of a request.
        array: The payload: a C-contiguous array; bytes are a 1-d ``uint8`` array.
    """

    kind: Kind
    epoch: int
    source: int
    request_id: int = 0
    tag: int = 0
    array: Array = msgspec.field(default_factory=lambda: _EMPTY)

    def __repr__(self) -> str:
        what = f"{self.array.dtype}{list(self.array.shape)}"
        return f"Frame({self.kind.name}, {what}, source={self.source}, tag={self.tag})"


class Header(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The checked header of a frame: the payload length fits the shape and the dtype.

    Attributes:
        checksum: Expected checksum of the payload.
    """

    kind: Kind
    epoch: int
    source: int
    request_id: int
    tag: int
    dtype: str
    shape: tuple[int, ...]
    num_bytes: int
    checksum: int

    @property
    def size(self) -> int:
        """Length of the header, in bytes."""
        return _FIXED_BYTES + 8 * len(self.shape)

    def frame(self, array: Array) -> Frame:
        """Return the frame of this header and the payload ``array``.

        Raises:
            CodecError: If the payload does not have the header's checksum.
        """
        found = _payload_sum(array)
        if found != self.checksum:
            raise CodecError(
                f"frame {self.tag} of request {self.request_id} from rank {self.source}: its "
                f"{self.num_bytes:,} bytes have checksum {found:08x}, expected {self.checksum:08x}"
            )
        return Frame(
            kind=self.kind,
            epoch=self.epoch,
            source=self.source,
            request_id=self.request_id,
            tag=self.tag,
            array=array,
        )


def encode_header(frame: Frame) -> bytes:
    """Return the header of ``frame``.

    Raises:
        CodecError: If the payload's dtype has no code, or a field does not fit.
    """
    array = frame.array
    code = _CODE_OF_NUMPY.get(array.dtype)
    if code is None:
        raise CodecError(f"frame: dtype {array.dtype} has no code on the wire")
    if array.ndim > MAX_NDIM:
        raise CodecError(f"frame: {array.ndim} dims, at most {MAX_NDIM}")
    try:
        fixed = _FIXED.pack(
            MAGIC,
            PROTOCOL_VERSION,
            frame.kind,
            code,
            array.ndim,
            frame.epoch,
            frame.request_id,
            frame.tag,
            frame.source,
            array.nbytes,
            _payload_sum(array),
        )
    except struct.error as error:
        raise CodecError(f"frame: a field does not fit the header: {error}") from error
    shape = _SHAPES[array.ndim].pack(*array.shape)
    return b"".join((fixed, _SUM.pack(_header_sum(fixed, shape)), shape))


def _payload_sum(array: Array) -> int:
    view = memoryview(byte_view(array))  # type: ignore[arg-type]  # numpy's stubs
    return xxhash.xxh3_64_intdigest(view) & 0xFFFFFFFF


def _header_sum(fixed: bytes | memoryview, shape: bytes | memoryview) -> int:
    return zlib.crc32(shape, zlib.crc32(fixed))


def encode(frame: Frame, *, chunk_bytes: int = CHUNK_BYTES) -> Iterator[bytes]:
    """Yield the messages that carry ``frame``, each with at most ``chunk_bytes`` of payload.

    The payload is copied once, into the messages, each when it is requested.
    """
    header = encode_header(frame)
    payload = memoryview(byte_view(frame.array))  # type: ignore[arg-type]  # numpy's stubs
    yield b"".join((header, payload[:chunk_bytes]))
    for start in range(chunk_bytes, len(payload), chunk_bytes):
        yield bytes(payload[start : start + chunk_bytes])


def byte_view(array: Array) -> Array:
    """Return the bytes of ``array`` as flat ``uint8``: a view, or a copy if ``array`` is not contiguous."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def decode_header(data: bytes | memoryview, *, max_payload_bytes: int = MAX_PAYLOAD_BYTES) -> Header:
    """Read and check the header at the start of ``data``.

    Raises:
        CodecError: If the header is too short, is not of this protocol version, has a wrong checksum or an
            unknown kind or dtype, contradicts itself, or announces a payload above the limit.
    """
    if len(data) < _FIXED_BYTES:
        raise CodecError(f"frame: {len(data)} bytes are too few for a header of {_FIXED_BYTES}")
    fields = _FIXED.unpack_from(data)
    magic, version, kind, code, ndim, epoch, request_id, tag, source, num_bytes, checksum = fields
    if magic != MAGIC:
        raise CodecError(f"frame: magic is {magic!r}, not {MAGIC!r}")
    if version != PROTOCOL_VERSION:
        raise CodecError(f"frame: protocol version {version}, this side speaks {PROTOCOL_VERSION}")
    if code not in _DTYPE_NAMES:
        raise CodecError(f"frame: unknown dtype code {code}")
    if ndim > MAX_NDIM:
        raise CodecError(f"frame: {ndim} dims, at most {MAX_NDIM}")
    size = _FIXED_BYTES + 8 * ndim
    if len(data) < size:
        raise CodecError(f"frame: {len(data)} bytes are too few for a header of {ndim} dims")
    (expected,) = _SUM.unpack_from(data, _FIXED.size)
    found = _header_sum(memoryview(data)[: _FIXED.size], memoryview(data)[_FIXED_BYTES:size])
    if found != expected:
        raise CodecError(f"frame: the header has checksum {found:08x}, expected {expected:08x}")
    header = Header(
        kind=_kind(kind),
        epoch=epoch,
        source=source,
        request_id=request_id,
        tag=tag,
        dtype=_DTYPE_NAMES[code],
        shape=_SHAPES[ndim].unpack_from(data, _FIXED_BYTES),
        num_bytes=num_bytes,
        checksum=checksum,
    )
    _check_size(header, max_payload_bytes)
    return header


def header_bytes(data: bytes | bytearray | memoryview) -> int | None:
    """Return the length of the header at the start of ``data``; None if ``data`` is too short to tell.

    Nothing is checked: `decode_header` does so, given as many bytes.
    """
    return None if len(data) < _FIXED_BYTES else _FIXED_BYTES + 8 * min(data[_NDIM_OFFSET], MAX_NDIM)


def check_payload(header: Header, payload: Array) -> None:
    """Raise `CodecError` if the payload's bytes (flat ``uint8``) are not values of the header's dtype."""
    if header.dtype == "bool" and payload.size and payload.max() > 1:
        raise CodecError("frame: a bool that is neither 0 nor 1")


def _kind(code: int) -> Kind:
    kind = _KINDS.get(code)
    if kind is None:
        raise CodecError(f"frame: unknown kind {code}")
    return kind


def _check_size(header: Header, max_payload_bytes: int) -> None:
    limit = max_payload_bytes if header.kind is Kind.TENSOR else min(MAX_NOTICE_BYTES, max_payload_bytes)
    if header.num_bytes > limit:
        raise CodecError(f"frame: payload of {header.num_bytes:,} bytes, the limit is {limit:,}")
    # If one dim is 0, the payload is empty whatever the others are; numpy refuses shapes whose other dims, or
    # their product, are too large.
    if any(size > MAX_PAYLOAD_BYTES for size in header.shape):
        raise CodecError(f"frame: shape {header.shape} has a dim above {MAX_PAYLOAD_BYTES:,}")
    if math.prod(max(1, size) for size in header.shape) > _MAX_EXTENT:
        raise CodecError(f"frame: the dims of shape {header.shape} multiply to more than {_MAX_EXTENT:,}")
    expected = math.prod(header.shape) * NUMPY_DTYPES[header.dtype].itemsize
    if expected != header.num_bytes:
        raise CodecError(
            f"frame: payload of {header.num_bytes:,} bytes, "
            f"but {header.dtype}{list(header.shape)} takes {expected:,}"
        )
    if header.kind is not Kind.TENSOR and (header.dtype != "uint8" or len(header.shape) != 1):
        raise CodecError(
            f"frame: a {header.kind.name} carries {header.dtype}{list(header.shape)}, not plain bytes"
        )


class Decoder:
    """Joins the messages of one direction of one connection into frames.

    Args:
        max_payload_bytes: Limit of one frame.
        admit: Called with each header before its payload is allocated; raises to refuse it.
    """

    def __init__(
        self,
        *,
        max_payload_bytes: int = MAX_PAYLOAD_BYTES,
        admit: Callable[[Header], None] | None = None,
    ) -> None:
        self._max_payload_bytes = max_payload_bytes
        self._admit = admit
        self._header: Header | None = None
        self._array: Array = _EMPTY
        self._bytes: Array = _EMPTY
        self._filled = 0

    def feed(self, message: bytes) -> Frame | None:
        """Take the next message; return the frame that it completes, or None.

        The frame's array is new, aligned, writable and belongs to the caller.

        Raises:
            CodecError: If the bytes are malformed. The decoder cannot be used afterwards.
        """
        payload = memoryview(message)
        if self._header is None:
            header = decode_header(payload, max_payload_bytes=self._max_payload_bytes)
            if self._admit is not None:
                self._admit(header)
            self._begin(header)
            payload = payload[header.size :]
        elif not payload:
            raise CodecError("frame: an empty message within a frame")
        return self._fill(payload)

    @property
    def is_mid_frame(self) -> bool:
        """Whether a frame has begun and is not complete."""
        return self._header is not None

    def _begin(self, header: Header) -> None:
        self._header = header
        self._array = np.empty(header.shape, NUMPY_DTYPES[header.dtype])
        self._bytes = self._array.reshape(-1).view(np.uint8)
        self._filled = 0

    def _fill(self, payload: memoryview) -> Frame | None:
        assert self._header is not None
        stop = self._filled + len(payload)
        if stop > self._header.num_bytes:
            raise CodecError(f"frame: {stop:,} payload bytes, the header says {self._header.num_bytes:,}")
        if payload:
            self._bytes[self._filled : stop] = np.frombuffer(payload, np.uint8)
        self._filled = stop
        if stop < self._header.num_bytes:
            return None
        frame = self._header.frame(self._array)
        check_payload(self._header, self._bytes)
        self._header, self._array, self._bytes = None, _EMPTY, _EMPTY
        return frame


def decode(data: bytes, *, max_payload_bytes: int = MAX_PAYLOAD_BYTES) -> Frame:
    """Return the frame in ``data``, which must hold all of it.

    Raises:
        CodecError: If the frame is malformed or incomplete.
    """
    frame = Decoder(max_payload_bytes=max_payload_bytes).feed(data)
    if frame is None:
        raise CodecError(f"frame: {len(data):,} bytes are fewer than the header says")
    return frame
