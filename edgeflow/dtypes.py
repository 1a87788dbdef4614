"""Names and sizes of dtypes. Names are torch's, without the prefix."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

#: Bits per element. 4-bit dtypes are of weights only, packed two to a byte.
DTYPE_BITS: Final[Mapping[str, int]] = MappingProxyType(
    {
        "float64": 64,
        "float32": 32,
        "float16": 16,
        "bfloat16": 16,
        "int64": 64,
        "int32": 32,
        "int16": 16,
        "int8": 8,
        "uint8": 8,
        "bool": 8,
        "int4": 4,
        "uint4": 4,
    }
)

#: Dtypes of floats.
FLOATS: Final = frozenset({"float64", "float32", "float16", "bfloat16"})


def bytes_of(num_elements: int, dtype: str) -> int:
    """Return the bytes of ``num_elements`` packed elements, rounded up.

    Examples:
        >>> bytes_of(5, "float32"), bytes_of(5, "int8"), bytes_of(5, "int4")
        (20, 5, 3)
    """
    return -(-num_elements * DTYPE_BITS[dtype] // 8)
