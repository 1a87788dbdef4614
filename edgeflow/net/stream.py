"""Frames out of a stream of bytes: where the next bytes go, and which frames they complete; no socket.

A payload of some size is read straight into the array that it becomes, so it is copied once, by the kernel.
What is small goes through a scratch buffer together with its header and whatever follows, which saves calls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np

from edgeflow.graph.ir import NUMPY_DTYPES, Array
from edgeflow.net.wire import (
    MAX_HEADER_BYTES,
    MAX_PAYLOAD_BYTES,
    Frame,
    Header,
    check_payload,
    decode_header,
    header_bytes,
)

#: What is read at once while no large payload is under way: a frame of 64 KiB with its header.
SCRATCH_BYTES: Final = (1 << 16) + MAX_HEADER_BYTES

_NOTHING: Final = np.empty(0, np.uint8)

#: Makes an array of a shape and a dtype, whatever is in it.
Allocate = Callable[[tuple[int, ...], "np.dtype[Any]"], Array]


class FrameReader:
    """One direction of one connection.

    `admit` and `max_payload_bytes` may be changed between frames.

    Use: read some bytes into `target`, say how many with `filled`, take the frames, again. The arrays of
    frames are new, writable, and belong to the caller.

    Args:
        max_payload_bytes: Limit of one frame.
        admit: Called with each header before its payload is allocated; raises to refuse it.
        allocate: Makes the arrays.
    """

    def __init__(
        self,
        *,
        max_payload_bytes: int = MAX_PAYLOAD_BYTES,
        admit: Callable[[Header], None] | None = None,
        allocate: Allocate = np.empty,
    ) -> None:
        self.admit = admit
        self.max_payload_bytes = max_payload_bytes
        self._allocate = allocate
        self._scratch = memoryview(bytearray(SCRATCH_BYTES))
        #: The bytes of the scratch that were read and not used yet.
        self._start = self._stop = 0
        #: A payload that is read straight into its array, and what of it is missing.
        self._header: Header | None = None
        self._array: Array = _NOTHING
        self._missing = memoryview(b"")

    @property
    def is_mid_frame(self) -> bool:
        """Whether a frame has begun and not ended."""
        return self._header is not None or self._start < self._stop

    @property
    def target(self) -> memoryview:
        """Where the next bytes go; never empty."""
        return self._scratch[self._stop :] if self._header is None else self._missing

    def filled(self, count: int) -> Iterator[Frame]:
        """Yield the frames that the ``count`` bytes now in `target` complete.

        Raises:
            CodecError: If the bytes are malformed. The reader is of no further use then.
            EdgeflowError: What `admit` raises.
        """
        if self._header is None:
            self._stop += count
            yield from self._scan()
            return
        self._missing = self._missing[count:]
        if not self._missing:
            header, array = self._header, self._array
            # Nothing may refer to a finished array but who gets it: its memory is wanted again.
            self._header, self._array, self._missing = None, _NOTHING, memoryview(b"")
            yield _finished(header, array)

    def _scan(self) -> Iterator[Frame]:
        """Take the frames, and at the end perhaps the beginning of one, out of the scratch."""
        while True:
            data = self._scratch[self._start : self._stop]
            size = header_bytes(data)
            if size is None or len(data) < size:
                break
            header = decode_header(data[:size], max_payload_bytes=self.max_payload_bytes)
            if self.admit is not None:
                self.admit(header)
            array = self._allocate(header.shape, NUMPY_DTYPES[header.dtype])
            # Not a memoryview of the array itself, whose dtype Python may not know.
            payload = memoryview(array.reshape(-1).view(np.uint8))  # type: ignore[arg-type]  # numpy's stubs
            here = min(len(payload), len(data) - size)
            payload[:here] = data[size : size + here]
            self._start += size + here
            if here < len(payload):
                self._header, self._array, self._missing = header, array, payload[here:]
                break
            yield _finished(header, array)
        # Bytes are left over where a header has not come to its end; they move to the front.
        rest = self._stop - self._start
        if self._start and rest:
            self._scratch[:rest] = bytes(self._scratch[self._start : self._stop])
        self._start, self._stop = 0, rest


def _finished(header: Header, array: Array) -> Frame:
    if header.dtype == "bool":
        check_payload(header, array.reshape(-1).view(np.uint8))
    return header.frame(array)
