"""Encodings of activations on slow links, where fewer bytes save more time than encoding takes.

* ``float16``: each value rounded to 16 bits; half of the bytes, an error of at most 2**-11 of the value.
* ``int8``: blocks of `BLOCK` values in memory order, each with its own scale, the block's largest magnitude
  over 127; 0.26 of the bytes, an error of at most 1/254 of that magnitude.

Frames from and to the client are never encoded, nor are other dtypes than 32-bit floats.

References:
    Dettmers et al., "8-bit Optimizers via Block-wise Quantization", ICLR 2022 (scales by block);
    Borzunov et al., "Petals", ACL 2023 (activations of 8 bits between devices).
"""

from __future__ import annotations

import math
from typing import Final

from edgeflow.errors import ConfigError
from edgeflow.graph.ir import NUMPY_DTYPES

#: Names of the encodings; the empty name stands for none.
ENCODINGS: Final = ("float16", "int8")

#: The only dtype that is encoded.
ENCODED_DTYPE: Final = "float32"

BLOCK: Final = 128

#: Encoding -> number of times that either side reads or writes the array for it.
ENCODING_PASSES: Final = {"float16": 2.0, "int8": 8.0}

#: Smaller frames are not encoded: their fixed cost exceeds that of their bytes.
MIN_ELEMENTS: Final = 256

#: Faster links get no encoding: sending the saved bytes would take less time than encoding.
MAX_BYTES_PER_S: Final = 2.5e9 / 8


def check_encoding(name: str) -> None:
    """Raise `ConfigError` unless ``name`` is empty or an encoding."""
    if name and name not in ENCODINGS:
        raise ConfigError(f"no encoding {name!r} of activations; known: {', '.join(ENCODINGS)}")


def wire_spec(shape: tuple[int, ...], dtype: str, encoding: str) -> tuple[tuple[int, ...], str]:
    """Return shape and dtype of the frame that carries an array.

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
    """Return the bytes of the frame's payload."""
    shape, dtype = wire_spec(shape, dtype, encoding)
    return math.prod(shape) * NUMPY_DTYPES[dtype].itemsize


def num_blocks(num_elements: int) -> int:
    return -(-num_elements // BLOCK)
