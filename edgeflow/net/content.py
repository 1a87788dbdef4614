"""Content-addressed weights: a slice is named by a hash of its dtype, shape and bytes.

Plans that need the same slice therefore share it, and a worker receives only the slices that it lacks.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Final

from edgeflow.errors import CodecError, WorkerOverloadedError
from edgeflow.graph.ir import NUMPY_DTYPES, Array
from edgeflow.net.wire import byte_view

_HASH: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Content:
    """Description of a weight slice: its name, dtype and shape."""

    content_hash: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def num_bytes(self) -> int:
        count = NUMPY_DTYPES[self.dtype].itemsize
        for size in self.shape:
            count *= size
        return count


def content_hash(array: Array, *, dtype: str) -> str:
    """Return the name of a slice: the BLAKE2b-256 hash of dtype, shape and bytes, in hexadecimal."""
    digest = new_digest(dtype, array.shape)
    digest.update(memoryview(byte_view(array)))  # type: ignore[arg-type]  # numpy's stubs
    return digest.hexdigest()


def content_of(array: Array, *, dtype: str) -> Content:
    """Return the description of ``array``; hashes all its bytes."""
    return Content(content_hash(array, dtype=dtype), dtype, tuple(array.shape))


def new_digest(dtype: str, shape: tuple[int, ...]) -> hashlib.blake2b:
    """Return a hash of dtype and shape; the caller adds the bytes of the slice, in any number of pieces."""
    digest = hashlib.blake2b(digest_size=32)
    digest.update(f"{dtype}:{','.join(map(str, shape))}:".encode())
    return digest


def is_hash(text: str) -> bool:
    """Return whether ``text`` has the form of a `content_hash`."""
    return _HASH.fullmatch(text) is not None


def check_content(content: Content, *, max_bytes: int) -> None:
    """Check a description that came over the network.

    Raises:
        CodecError: If the hash, the dtype or the shape is invalid.
        WorkerOverloadedError: If the slice is larger than ``max_bytes``.
    """
    if not is_hash(content.content_hash):
        raise CodecError(f"weights: {content.content_hash[:80]!r} is not a content hash")
    if content.dtype not in NUMPY_DTYPES:
        raise CodecError(f"weights: unknown dtype {content.dtype!r}")
    if any(size < 0 for size in content.shape):
        raise CodecError(f"weights: shape {content.shape}")
    if content.num_bytes > max_bytes:
        raise WorkerOverloadedError(
            f"weights: a slice of {content.num_bytes:,} bytes, the limit is {max_bytes:,}"
        )
