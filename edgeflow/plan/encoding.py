"""What activations look like between devices: as they are, or narrower, where a slow link makes that pay.

* ``float16``: each value rounded to 16 bits; half of the bytes, an error of 2**-11 of a value at most.
* ``int8``: blocks of `BLOCK` values in the order of memory, each with a scale of its own, the block's largest
  value over 127; 0.26 of the bytes, an error of 1/254 of the block's largest value at most.

What the client sends and gets is never changed, nor is anything but 32-bit floats.

References:
    Dettmers et al., "8-bit Optimizers via Block-wise Quantization", ICLR 2022 (scales by block);
    Borzunov et al., "Petals", ACL 2023 (activations of 8 bits between devices).
"""

from __future__ import annotations

import math
from typing import Final

from edgeflow.errors import ConfigError
from edgeflow.graph.ir import NUMPY_DTYPES

#: What activations may be sent as, besides as they are (empty).
ENCODINGS: Final = ("float16", "int8")

#: The only dtype that is made narrower.
ENCODED_DTYPE: Final = "float32"

BLOCK: Final = 128

#: How often an array is read or written for it, on either side.
ENCODING_PASSES: Final = {"float16": 2.0, "int8": 8.0}

#: Of fewer values the frame costs more than its bytes.
MIN_ELEMENTS: Final = 256

#: Over faster links the bytes that are saved take less time than saving them.
MAX_BYTES_PER_S: Final = 2.5e9 / 8


def check_encoding(name: str) -> None:
    """Raise `ConfigError` if there is no encoding of this name; the empty one is that of no change."""
    if name and name not in ENCODINGS:
        raise ConfigError(f"no encoding {name!r} of activations; known: {', '.join(ENCODINGS)}")


def wire_spec(shape: tuple[int, ...], dtype: str, encoding: str) -> tuple[tuple[int, ...], str]:
    """Shape and dtype of the frame that carries an array.

    Examples:
        >>> wire_spec((2, 300), "float32", "int8")
        ((620,), 'uint8')
    """
    if not encoding:
        return shape, dtype
    if encoding == "float16":
        return shape, "float16"
    count = math.prod(shape)
    return (4 * num_blocks(count) + count,), "uint8"


def wire_bytes(shape: tuple[int, ...], dtype: str, encoding: str) -> int:
    """Bytes of the frame's payload."""
    shape, dtype = wire_spec(shape, dtype, encoding)
    return math.prod(shape) * NUMPY_DTYPES[dtype].itemsize


def num_blocks(num_elements: int) -> int:
    return -(-num_elements // BLOCK)
