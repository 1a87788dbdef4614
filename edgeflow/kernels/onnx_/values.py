"""Values of an ONNX graph, as emitters read and return them, and torch's rules of type promotion.

Dtypes have torch's names, as everywhere in edgeflow.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

import numpy as np
from onnx import TensorProto

from edgeflow.graph.ir import NUMPY_DTYPES

#: Dtype -> ONNX's number for it.
ONNX_DTYPES: Final[dict[str, int]] = {
    "float32": TensorProto.FLOAT,
    "float64": TensorProto.DOUBLE,
    "float16": TensorProto.FLOAT16,
    "bfloat16": TensorProto.BFLOAT16,
    "int64": TensorProto.INT64,
    "int32": TensorProto.INT32,
    "int16": TensorProto.INT16,
    "int8": TensorProto.INT8,
    "uint8": TensorProto.UINT8,
    "bool": TensorProto.BOOL,
}

FLOATS: Final = ("float16", "bfloat16", "float32", "float64")
HALVES: Final = ("float16", "bfloat16")
_SIGNED: Final = ("int8", "int16", "int32", "int64")
_NAMES: Final = {dtype: name for name, dtype in NUMPY_DTYPES.items()}


class CannotEmit(Exception):
    """ONNX cannot express a step exactly; the fallback back end must run it."""


class Value(NamedTuple):
    """A tensor of the graph under construction."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def is_float(self) -> bool:
        return self.dtype in FLOATS


class Dtype(NamedTuple):
    """An argument that names a dtype."""

    name: str


#: An operand: a tensor or a Python number.
Operand = Value | bool | int | float


def dtype_name(dtype: np.dtype[np.generic]) -> str:
    """Return torch's name of a numpy dtype.

    Raises:
        CannotEmit: If edgeflow has no such dtype.
    """
    try:
        return _NAMES[np.dtype(dtype)]
    except KeyError:
        raise CannotEmit(f"no dtype {dtype}") from None


def dim_of(dim: int, ndim: int) -> int:
    """Return a dim counted from the start; negative ``dim`` counts from the end. A scalar counts as 1-D."""
    return dim % max(1, ndim)


def dims_of(dims: Iterable[int] | int | None, ndim: int) -> tuple[int, ...]:
    """Return dims in ascending order; None or an empty list means all of them."""
    if isinstance(dims, int):
        dims = (dims,)
    chosen = sorted({dim_of(dim, ndim) for dim in dims or ()} if ndim else ())
    return tuple(chosen or range(ndim))


def broadcast_shapes(*shapes: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape that operands of these shapes broadcast to.

    Examples:
        >>> broadcast_shapes((3, 1), (4,))
        (3, 4)
    """
    return tuple(int(size) for size in np.broadcast_shapes(*shapes))


def promote(first: str, second: str) -> str:
    """Return the dtype that holds both, by torch's promotion table.

    Examples:
        >>> promote("float16", "bfloat16"), promote("uint8", "int8"), promote("int64", "float16")
        ('float32', 'int16', 'float16')
    """
    if first == second:
        return first
    pair = {first, second}
    floats = [name for name in pair if name in FLOATS]
    if len(floats) == 1:
        return floats[0]
    if floats:
        return "float32" if pair == set(HALVES) else max(floats, key=_width)
    if "bool" in pair:
        return (pair - {"bool"}).pop()
    if "uint8" in pair:
        signed = (pair - {"uint8"}).pop()
        return "int16" if signed == "int8" else signed
    return max(pair, key=_SIGNED.index)


def _width(dtype: str) -> int:
    return NUMPY_DTYPES[dtype].itemsize


def _category(dtype: str) -> int:
    return 0 if dtype == "bool" else 2 if dtype in FLOATS else 1


def number_dtype(number: bool | int | float) -> str:
    """Return the dtype of a tensor made from a Python number."""
    return "bool" if isinstance(number, bool) else "int64" if isinstance(number, int) else "float32"


def result_dtype(*operands: Operand) -> str:
    """Return the dtype of arithmetic on operands, by torch's rules.

    Ranks are: tensors with dims, 0-d tensors, Python numbers. Operands of a later rank change the result only
    if their kind (bool < integer < float) is a higher one.
    """
    ranks: list[str | None] = [None, None, None]
    for item in operands:
        if isinstance(item, Value):
            rank, dtype = (0 if item.ndim else 1), item.dtype
        else:
            rank, dtype = 2, number_dtype(item)
        known = ranks[rank]
        ranks[rank] = dtype if known is None else promote(known, dtype)
    result: str | None = None
    for dtype_ in ranks:
        if dtype_ is None:
            continue
        if result is None or _category(dtype_) > _category(result):
            result = dtype_
    assert result is not None, "an operation without operands"
    return result
