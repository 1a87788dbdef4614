"""Frames by hand: whatever a peer may write, with the checksums that a clever one would put there."""

from __future__ import annotations

import struct
import zlib

import xxhash

from edgeflow.net.wire import PROTOCOL_VERSION

#: Bytes before the checksums, and of the header without its shape.
_PLAIN, _FIXED = 40, 48


def sealed(message: bytes) -> bytes:
    """The message with its two checksums made to fit."""
    size = _FIXED + 8 * message[7]
    payload = struct.pack("<I", xxhash.xxh3_64_intdigest(message[size:]) & 0xFFFFFFFF)
    head = message[:_PLAIN] + payload
    return head + struct.pack("<I", zlib.crc32(message[_FIXED:size], zlib.crc32(head))) + message[_FIXED:]


def frame_bytes(
    *,
    kind: int = 2,
    dtype: int = 1,
    shape: tuple[int, ...] = (2,),
    num_bytes: int = 8,
    ndim: int | None = None,
    epoch: int = 7,
    source: int = 0,
    payload: bytes = b"",
) -> bytes:
    """A frame of which only the magic, the version and the checksums are right for certain."""
    count = len(shape) if ndim is None else ndim
    plain = struct.pack(
        "<4sBBBBQQIiQ", b"EFLW", PROTOCOL_VERSION, kind, dtype, count, epoch, 1, 0, source, num_bytes
    )
    return sealed(plain + bytes(8) + struct.pack(f"<{len(shape)}Q", *shape) + payload)
