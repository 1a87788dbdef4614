"""Read frames from a stream of bytes, without a socket: say where the next bytes go, yield complete frames.

The rest of a payload that is not complete in the scratch buffer is read straight into its array, so only the
kernel copies it. Small frames pass through the scratch buffer, several per system call.
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

#: Most bytes per read outside of a large payload: a frame of 64 KiB with its header.
SCRATCH_BYTES: Final = (1 << 16) + MAX_HEADER_BYTES

_NOTHING: Final = np.empty(0, np.uint8)

#: Returns an uninitialised array of a shape and a dtype.
Allocate = Callable[[tuple[int, ...], "np.dtype[Any]"], Array]


class FrameReader:
    """Reads the frames of one direction of one connection.

    In a loop: read bytes into `target`, pass their number to `filled`, and take the frames that it yields.
    Their arrays are new, writable, and belong to the caller. `admit` and `max_payload_bytes` may be changed
    between frames.

    Args:
        max_payload_bytes: Limit of one frame.
        admit: Called with each header before its payload is allocated; raises to refuse it.
        allocate: Returns the arrays.
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
        #: Interval of the scratch buffer that has been read and not yet used.
        self._start = self._stop = 0
        #: A payload that is read straight into its array, and the part of the array still to be filled.
        self._header: Header | None = None
        self._array: Array = _NOTHING
        self._missing = memoryview(b"")

    @property
    def is_mid_frame(self) -> bool:
        """Whether a frame has begun and is not complete."""
        return self._header is not None or self._start < self._stop

    @property
    def target(self) -> memoryview:
        """Where the next bytes go; never empty."""
        return self._scratch[self._stop :] if self._header is None else self._missing

    def filled(self, count: int) -> Iterator[Frame]:
        """Yield the frames that the ``count`` bytes now in `target` complete.

        Raises:
            CodecError: If the bytes are malformed. The reader cannot be used afterwards.
            EdgeflowError: If `admit` raises it.
        """
        if self._header is None:
            self._stop += count
            yield from self._scan()
            return
        self._missing = self._missing[count:]
        if not self._missing:
            header, array = self._header, self._array
            # Keep no reference to the finished array, so that its memory is free once its receiver drops it.
            self._header, self._array, self._missing = None, _NOTHING, memoryview(b"")
            yield _finished(header, array)

    def _scan(self) -> Iterator[Frame]:
        """Yield the frames in the scratch buffer; begin the last one if it is incomplete."""
        while True:
            data = self._scratch[self._start : self._stop]
            size = header_bytes(data)
            if size is None or len(data) < size:
                break
            header = decode_header(data[:size], max_payload_bytes=self.max_payload_bytes)
            if self.admit is not None:
                self.admit(header)
            array = self._allocate(header.shape, NUMPY_DTYPES[header.dtype])
            # A view as uint8, because memoryview does not support every dtype (bfloat16).
            payload = memoryview(array.reshape(-1).view(np.uint8))  # type: ignore[arg-type]  # numpy's stubs
            here = min(len(payload), len(data) - size)
            payload[:here] = data[size : size + here]
            self._start += size + here
            if here < len(payload):
                self._header, self._array, self._missing = header, array, payload[here:]
                break
            yield _finished(header, array)
        # The remaining bytes belong to an incomplete header; move them to the front.
        rest = self._stop - self._start
        if self._start and rest:
            self._scratch[:rest] = bytes(self._scratch[self._start : self._stop])
        self._start, self._stop = 0, rest


def _finished(header: Header, array: Array) -> Frame:
    if header.dtype == "bool":
        check_payload(header, array.reshape(-1).view(np.uint8))
    return header.frame(array)
