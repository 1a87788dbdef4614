"""Convert tensors of the Open Inference Protocol, as JSON values or raw bytes, to numpy arrays and back.

Raw bytes are little-endian and row-major. An array is allocated only after its announced datatype and shape
have been found to be those of the model's input.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from edgeflow.errors import ConfigError
from edgeflow.graph.ir import NUMPY_DTYPES, Array, ModelGraph, Structure

_DATATYPES: Final = {
    "bool": "BOOL",
    "uint8": "UINT8",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "float16": "FP16",
    "bfloat16": "BF16",
    "float32": "FP32",
    "float64": "FP64",
}
_DTYPES: Final = {datatype: dtype for dtype, datatype in _DATATYPES.items()}


class TensorInfo(NamedTuple):
    """Name, datatype and shape of an input or output, as in the protocol."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    @property
    def num_elements(self) -> int:
        return math.prod(self.shape)

    @property
    def num_bytes(self) -> int:
        return self.num_elements * NUMPY_DTYPES[_DTYPES[self.datatype]].itemsize


def input_infos(graph: ModelGraph) -> tuple[TensorInfo, ...]:
    """Return the inputs of a graph, under their names in the graph."""
    return tuple(_info(graph, name, name) for name in graph.inputs)


def output_infos(graph: ModelGraph) -> tuple[TensorInfo, ...]:
    """Return the outputs of a graph.

    An output is named by its path in the module's answer, or after its tensor if the answer is one tensor. A
    repeated name gets a number.
    """
    names: list[str] = []
    for path, tensor in zip(_paths(graph.output_structure, ""), graph.outputs, strict=True):
        name = path or tensor
        names.append(name if name not in names else f"{name}_{len(names)}")
    return tuple(_info(graph, tensor, name) for name, tensor in zip(names, graph.outputs, strict=True))


def leaves(answer: Any) -> Iterator[Any]:
    """Yield the tensors of an answer, in the graph's flat order."""
    if isinstance(answer, Mapping):
        for item in answer.values():
            yield from leaves(item)
    elif isinstance(answer, tuple | list):
        for item in answer:
            yield from leaves(item)
    elif answer is not None and not isinstance(answer, bool | int | float | str):
        yield answer


def check_input(info: TensorInfo, datatype: str, shape: Sequence[int]) -> None:
    """Raise `ConfigError` if a request announces another datatype or shape than the model takes."""
    if datatype != info.datatype or tuple(shape) != info.shape:
        raise ConfigError(
            f"input {info.name!r}: the model takes {info.datatype}{list(info.shape)}, "
            f"got {datatype[:20]}{list(shape)[:16]}"
        )


def from_raw(info: TensorInfo, data: bytes | memoryview) -> Array:
    """Return the tensor whose bytes are ``data``, as a read-only view.

    Raises:
        ConfigError: If the number of bytes is wrong, or a bool is neither 0 nor 1.
    """
    if len(data) != info.num_bytes:
        raise ConfigError(
            f"input {info.name!r}: {info.datatype}{list(info.shape)} takes {info.num_bytes:,} bytes, "
            f"got {len(data):,}"
        )
    dtype = NUMPY_DTYPES[_DTYPES[info.datatype]]
    if info.datatype == "BOOL" and any(byte > 1 for byte in bytes(data)):
        raise ConfigError(f"input {info.name!r}: a bool that is neither 0 nor 1")
    return np.frombuffer(data, dtype).reshape(info.shape)


def to_raw(array: Array) -> bytes:
    """Return the bytes of ``array``, row-major."""
    return np.ascontiguousarray(array).tobytes()


def from_values(info: TensorInfo, values: Any) -> Array:
    """Return the tensor with ``values``: a list of numbers or booleans, flat or nested.

    Raises:
        ConfigError: If the number, the type or the range of the values does not fit.
    """
    flat: list[Any] = []
    _flatten(values, flat, limit=info.num_elements, depth=len(info.shape) + 1)
    if len(flat) != info.num_elements:
        raise ConfigError(
            f"input {info.name!r}: {list(info.shape)} takes {info.num_elements:,} values, got {len(flat):,}"
        )
    dtype = _DTYPES[info.datatype]
    kinds: tuple[type, ...] = (bool,) if dtype == "bool" else (int, float) if "float" in dtype else (int,)
    for value in flat:
        if type(value) not in kinds:
            raise ConfigError(f"input {info.name!r}: {value!r:.40} is not a value of {info.datatype}")
    try:
        # Floats pass through float64, like numbers in JSON; integers must not, to keep every digit.
        array = np.array(flat, np.float64 if "float" in dtype else NUMPY_DTYPES[dtype])
    except OverflowError as error:
        raise ConfigError(f"input {info.name!r}: a value does not fit {info.datatype}: {error}") from error
    return array.astype(NUMPY_DTYPES[dtype]).reshape(info.shape)


def to_values(info: TensorInfo, array: Array) -> list[Any]:
    """Return the values of an output for JSON, flat.

    Raises:
        ConfigError: If a value is infinite or NaN, which JSON cannot express.
    """
    if "FP" in info.datatype or info.datatype == "BF16":
        array = array.astype(np.float64)
        if not np.isfinite(array).all():
            raise ConfigError(
                f"output {info.name!r} is not finite everywhere, and JSON cannot express that; "
                "request binary data"
            )
    values: list[Any] = array.reshape(-1).tolist()
    return values


def _flatten(values: Any, flat: list[Any], *, limit: int, depth: int) -> None:
    if isinstance(values, list):
        if depth == 0:
            raise ConfigError("a tensor's values are nested more deeply than its number of dims")
        for item in values:
            _flatten(item, flat, limit=limit, depth=depth - 1)
    elif len(flat) <= limit:  # one value too many is enough for the caller to refuse the tensor
        flat.append(values)


def _info(graph: ModelGraph, tensor: str, name: str) -> TensorInfo:
    spec = graph.specs[tensor]
    return TensorInfo(name, _DATATYPES[spec.dtype], tuple(spec.shape))


def _paths(structure: Structure, path: str) -> Iterator[str]:
    """Yield the path of each flat tensor: keys and positions, joined by dots."""
    if structure.kind == "tensor":
        yield path
    elif structure.kind == "dict":
        for key, item in zip(structure.keys, structure.items, strict=True):
            yield from _paths(item, f"{path}.{key}" if path else key)
    else:
        for index, item in enumerate(structure.items):
            yield from _paths(item, f"{path}.{index}" if path else "")
