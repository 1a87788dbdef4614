"""The frame format of the data plane: a fixed header, the shape, the raw payload.

A frame is what one rank sends another: a region of a tensor, or a short notice (hello, failure, cancel).

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
    40      4     XXH3 of the payload: the low half of the 64 bits
    44      4     CRC-32 of the header: of what stands before this field, then of the shape
    48      8*n   shape, unsigned
    ...           payload, row-major, little-endian

Everything is little-endian. The checksums are there because a wrong number is worse than none: TCP's own
sum of 16 bits lets one in 65,536 broken segments pass, and none of it covers a machine's memory. That of the
payload is XXH3, which is as fast as memory; zlib's CRC-32 took half as long as the system takes to send.

A frame travels as one or more messages: the first begins with the header, the others only continue the
payload (`encode`), so that no message exceeds `CHUNK_BYTES`. `Decoder` puts them together again. The bytes
come from other machines, so every field is checked before anything is allocated, and whatever is wrong is a
`CodecError`.
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

#: A frame larger than this is refused; a connection may set its own, lower limit.
MAX_PAYLOAD_BYTES: Final = 1 << 32

#: Notices (failures) are short.
MAX_NOTICE_BYTES: Final = 1 << 16

MAX_NDIM: Final = 16

#: Of the dims of a shape, multiplied, those that are 0 left out: numpy counts the bytes in 63 bits.
_MAX_EXTENT: Final = 1 << 59

_FIXED: Final = struct.Struct("<4sBBBBQQIiQI")
_SUM: Final = struct.Struct("<I")
_FIXED_BYTES: Final = _FIXED.size + _SUM.size
_NDIM_OFFSET: Final = 7
_SHAPES: Final = tuple(struct.Struct(f"<{ndim}Q") for ndim in range(MAX_NDIM + 1))

#: No header is longer.
MAX_HEADER_BYTES: Final = _FIXED_BYTES + 8 * MAX_NDIM

#: The code of a dtype on the wire; numbers are never reused.
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
    """What a frame is."""

    #: First on every connection: who dials, in which epoch; sent back as it came when it is accepted.
    HELLO = 1
    #: A region of a tensor, identified by source rank and tag.
    TENSOR = 2
    #: From a worker to the client: the request failed; the payload says why.
    FAILURE = 3
    #: From the client to the workers: forget the request.
    CANCEL = 4
    #: Last on a connection, where the transport has no such notice of its own: empty, or why it ends.
    GOODBYE = 5
    #: Whether anybody is there, where the transport does not ask by itself; tag 0 asks, tag 1 answers.
    PING = 6


_KINDS: Final = {kind.value: kind for kind in Kind}
_EMPTY: Final = np.empty(0, np.uint8)


class Frame(msgspec.Struct, frozen=True, kw_only=True, eq=False, gc=False):
    """What one rank sends another.

    Attributes:
        kind: What it is.
        epoch: The deployment that it belongs to.
        source: Rank of the sender.
        request_id: The request that it belongs to; 0 in a hello.
        tag: Which transfer of the program; unique in a plan.
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
    """The header of a frame, checked: the payload length fits the shape and the dtype.

    Attributes:
        checksum: That the payload must have.
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
        """Bytes of the header itself."""
        return _FIXED_BYTES + 8 * len(self.shape)

    def frame(self, array: Array) -> Frame:
        """Return the frame of this header and a payload that has arrived.

        Raises:
            CodecError: If the payload is not what was sent.
        """
        found = _payload_sum(array)
        if found != self.checksum:
            raise CodecError(
                f"frame {self.tag} of request {self.request_id} from rank {self.source}: its "
                f"{self.num_bytes:,} bytes have checksum {found:08x}, sent were {self.checksum:08x}"
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

    The payload is copied once, into the messages; nothing is copied before a message is asked for.
    """
    header = encode_header(frame)
    payload = memoryview(byte_view(frame.array))  # type: ignore[arg-type]  # numpy's stubs
    yield b"".join((header, payload[:chunk_bytes]))
    for start in range(chunk_bytes, len(payload), chunk_bytes):
        yield bytes(payload[start : start + chunk_bytes])


def byte_view(array: Array) -> Array:
    """Return the bytes of ``array`` as a flat ``uint8`` view; it is copied only if it is not contiguous."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def decode_header(data: bytes | memoryview, *, max_payload_bytes: int = MAX_PAYLOAD_BYTES) -> Header:
    """Read and check the header at the start of ``data``.

    Raises:
        CodecError: If it is too short, is not ours, was changed on its way, names what does not exist, or is
            larger than the limit.
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
        raise CodecError(f"frame: the header has checksum {found:08x}, sent was {expected:08x}")
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
    """Return how long the header is that ``data`` begins with; None if that cannot be said yet.

    Nothing is checked: `decode_header` on as many bytes says what is wrong.
    """
    return None if len(data) < _FIXED_BYTES else _FIXED_BYTES + 8 * min(data[_NDIM_OFFSET], MAX_NDIM)


def check_payload(header: Header, payload: Array) -> None:
    """Raise `CodecError` for bytes (flat ``uint8``) that are no values of the header's dtype."""
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
    # Where one dim is 0 the others may be huge; numpy refuses such shapes, alone and multiplied, so they are
    # refused here.
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
    """Puts the messages of one direction of one connection together again.

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
            CodecError: If the bytes are malformed. The decoder is of no further use then.
        """
        payload = memoryview(message)
        if self._header is None:
            header = decode_header(payload, max_payload_bytes=self._max_payload_bytes)
            if self._admit is not None:
                self._admit(header)
            self._begin(header)
            payload = payload[header.size :]
        elif not payload:
            raise CodecError("frame: an empty message in mid-frame")
        return self._fill(payload)

    @property
    def is_mid_frame(self) -> bool:
        """Whether a frame has begun and not ended."""
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
    """Decode a frame that is whole in one message.

    Raises:
        CodecError: If it is malformed or incomplete.
    """
    frame = Decoder(max_payload_bytes=max_payload_bytes).feed(data)
    if frame is None:
        raise CodecError(f"frame: {len(data):,} bytes are less than the header says")
    return frame
