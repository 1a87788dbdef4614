"""Weights by content: a cache on disk, shared by every plan, and safe against untrusted contents.

A weight slice is named by a hash of its dtype, shape and bytes. So a name determines the content, two plans
that need one slice share it, and only missing slices travel. Files hold the raw bytes and nothing else. Each
is written under another name, renamed when its hash has been checked, and checked again when it is read: a
damaged file counts as missing.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import numpy as np

from edgeflow.errors import CodecError, ConfigError, WorkerFailedError, WorkerOverloadedError
from edgeflow.graph.ir import NUMPY_DTYPES, Array
from edgeflow.net.content import Content, content_hash, is_hash, new_digest

#: Size above which the slices used least recently are removed.
DEFAULT_LIMIT_BYTES: Final = 16 << 30


#: Prefix of unfinished files, and the age at which those of workers that died are removed.
_PART: Final = "part-"
_STALE_S: Final = 86_400.0


def default_folder() -> Path:
    """``$EDGEFLOW_CACHE_DIR``, or the user's cache folder."""
    chosen = os.environ.get("EDGEFLOW_CACHE_DIR")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgeflow" / "weights"


class WeightCache:
    """Weight slices in a folder. Several workers may share one folder.

    Args:
        folder: Made if it does not exist.
        limit_bytes: Size above which the slices used least recently are removed.

    Raises:
        ConfigError: If the folder cannot be made.
    """

    def __init__(self, folder: Path, *, limit_bytes: int = DEFAULT_LIMIT_BYTES) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"cache folder {folder}: {error.strerror}") from error
        self._folder = folder
        self._limit_bytes = limit_bytes
        self._lock = threading.Lock()

    def has(self, content: Content) -> bool:
        """Whether the slice has a file of its full length; `load` checks the bytes."""
        path = self._path(content.content_hash)
        try:
            if path.stat().st_size != content.num_bytes:
                return False
            os.utime(path)
        except OSError:
            return False
        return True

    def load(self, content: Content) -> Array:
        """Read a slice into memory and check it.

        Raises:
            WorkerFailedError: If its file is gone, or damaged; it is then removed.
        """
        path = self._path(content.content_hash)
        try:
            array = np.fromfile(path, np.uint8)
        except OSError as error:
            raise WorkerFailedError(f"weights: {content.content_hash} is not in the cache") from error
        if array.nbytes == content.num_bytes:
            whole: Array = array.view(NUMPY_DTYPES[content.dtype]).reshape(content.shape)
            if content_hash(whole, dtype=content.dtype) == content.content_hash:
                return whole
        with contextlib.suppress(OSError):
            path.unlink()
        raise WorkerFailedError(f"weights: {content.content_hash} was damaged in the cache; it is removed")

    def writer(self, content: Content, *, keep: Iterable[str] = ()) -> Writer:
        """Begin to write a slice.

        Args:
            keep: Hashes that must not be forgotten to make room.

        Raises:
            WorkerOverloadedError: If the cache has no room for it.
        """
        self._make_room(content.num_bytes, set(keep))
        return Writer(content, self._path(content.content_hash))

    def _make_room(self, num_bytes: int, keep: set[str]) -> None:
        with self._lock:
            files = []
            for path in self._folder.iterdir():
                with contextlib.suppress(OSError):
                    status = path.stat()
                    if is_hash(path.name):
                        files.append((status.st_mtime, path, status.st_size))
                    elif path.name.startswith(_PART) and status.st_mtime < time.time() - _STALE_S:
                        path.unlink()
            excess = sum(size for _, _, size in files) + num_bytes - self._limit_bytes
            for _, path, size in sorted(files):
                if excess <= 0:
                    return
                if path.name not in keep:
                    with contextlib.suppress(OSError):
                        path.unlink()
                    excess -= size
            if excess > 0:
                raise WorkerOverloadedError(
                    f"weights: the cache holds at most {self._limit_bytes:,} bytes, "
                    f"{excess:,} too few for a slice of {num_bytes:,}"
                )

    def _path(self, content_hash: str) -> Path:
        # The name comes from the network: nothing but a hash may become a path.
        if not is_hash(content_hash):
            raise CodecError(f"weights: {content_hash[:80]!r} is not a content hash")
        return self._folder / content_hash


class Writer:
    """Takes the bytes of one slice in order; the file appears when they are complete and checked."""

    def __init__(self, content: Content, path: Path) -> None:
        self.content = content
        self._path = path
        self._digest = new_digest(content.dtype, content.shape)
        self._written = 0
        try:
            self._file = tempfile.NamedTemporaryFile(  # noqa: SIM115  # closed by finish or discard
                dir=path.parent, prefix=_PART, delete=False
            )
        except OSError as error:
            raise WorkerFailedError(f"weights: cannot write to the cache: {error.strerror}") from error

    def write(self, offset: int, data: bytes) -> None:
        """Take the next chunk.

        Raises:
            CodecError: If its offset is not the next one, or it is too long.
        """
        if offset != self._written:
            raise CodecError(f"weights: a chunk at {offset:,}, {self._written:,} was due")
        if offset + len(data) > self.content.num_bytes:
            raise CodecError(f"weights: more than the {self.content.num_bytes:,} bytes announced")
        try:
            self._file.write(data)
        except OSError as error:
            raise WorkerFailedError(f"weights: cannot write to the cache: {error.strerror}") from error
        self._digest.update(data)
        self._written += len(data)

    def finish(self) -> None:
        """Check the hash and put the file in its place.

        Raises:
            CodecError: If bytes are missing, or are not those of the hash.
        """
        if self._written != self.content.num_bytes:
            self.discard()
            raise CodecError(f"weights: {self._written:,} of {self.content.num_bytes:,} bytes arrived")
        if self._digest.hexdigest() != self.content.content_hash:
            self.discard()
            raise CodecError(f"weights: what arrived is not {self.content.content_hash}")
        try:
            self._file.close()
            Path(self._file.name).replace(self._path)
        except OSError as error:
            self.discard()
            raise WorkerFailedError(f"weights: cannot write to the cache: {error.strerror}") from error

    def discard(self) -> None:
        """Forget what was written; may be called twice, and after `finish`."""
        with contextlib.suppress(OSError):
            self._file.close()
        with contextlib.suppress(OSError):
            Path(self._file.name).unlink()
