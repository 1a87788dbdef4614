"""Arrays to what is sent of them and back; formats are in `edgeflow.plan.encoding`."""

from __future__ import annotations

import numpy as np

from edgeflow.errors import InvalidPlanError
from edgeflow.graph.ir import Array
from edgeflow.plan.encoding import BLOCK, num_blocks


def encode(array: Array, encoding: str, tensor: str) -> Array:
    """Return what is sent of a contiguous array of 32-bit floats.

    Raises:
        InvalidPlanError: If it holds values that the encoding cannot carry.
    """
    if encoding == "float16":
        try:
            with np.errstate(over="raise"):
                return array.astype(np.float16)
        except FloatingPointError as error:
            largest = float(np.abs(array[np.isfinite(array)]).max())
            raise InvalidPlanError(
                f"{tensor!r} has values of {largest:.3g}, float16 ends at 65,504: use int8, or no encoding"
            ) from error
    return _to_int8(array, tensor)


def decode(payload: Array, encoding: str, shape: tuple[int, ...]) -> Array:
    """Return the array of 32-bit floats that was sent."""
    if encoding == "float16":
        return payload.astype(np.float32)
    count = int(np.prod(shape, dtype=np.int64))
    blocks = num_blocks(count)
    scales = payload[: 4 * blocks].view("<f4")
    steps = payload[4 * blocks :].view(np.int8)
    values = np.zeros(blocks * BLOCK, np.float32)
    values[:count] = steps
    values.reshape(blocks, BLOCK)[...] *= scales[:, None]
    return values[:count].reshape(shape)


def _to_int8(array: Array, tensor: str) -> Array:
    count = array.size
    blocks = num_blocks(count)
    values = np.zeros(blocks * BLOCK, np.float32)
    values[:count] = array.reshape(-1)
    table = values.reshape(blocks, BLOCK)
    scales = np.abs(table).max(axis=1) / np.float32(127)
    if not np.isfinite(scales).all():
        raise InvalidPlanError(f"{tensor!r} has values that are not finite, which int8 cannot carry")
    # A block of zeros has no scale; any does.
    table /= np.where(scales > 0, scales, np.float32(1))[:, None]
    payload = np.empty(4 * blocks + count, np.uint8)
    payload[: 4 * blocks] = scales.astype("<f4").view(np.uint8)
    payload[4 * blocks :].view(np.int8)[...] = np.rint(values[:count])
    return payload
