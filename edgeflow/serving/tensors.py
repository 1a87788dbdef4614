"""Tensors of the Open Inference Protocol as numpy arrays, and back: JSON values, raw bytes, names, sizes.

Raw bytes are little-endian and row-major. Nothing is allocated before the size that was announced is known to
be that of the model's own input.
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
    """An input or an output of a model, as the protocol describes it."""

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
    """The inputs of a graph, by the names that the graph has for them."""
    return tuple(_info(graph, name, name) for name in graph.inputs)


def output_infos(graph: ModelGraph) -> tuple[TensorInfo, ...]:
    """The outputs of a graph: by the keys of the module's answer where it has keys, else by their tensors.

    A name that occurs twice gets a number.
    """
    names: list[str] = []
    for path, tensor in zip(_paths(graph.output_structure, ""), graph.outputs, strict=True):
        name = path or tensor
        names.append(name if name not in names else f"{name}_{len(names)}")
    return tuple(_info(graph, tensor, name) for name, tensor in zip(names, graph.outputs, strict=True))


def leaves(answer: Any) -> Iterator[Any]:
    """The tensors of an answer, in the graph's flat order."""
    if isinstance(answer, Mapping):
        for item in answer.values():
            yield from leaves(item)
    elif isinstance(answer, tuple | list):
        for item in answer:
            yield from leaves(item)
    elif answer is not None and not isinstance(answer, bool | int | float | str):
        yield answer


def check_input(info: TensorInfo, datatype: str, shape: Sequence[int]) -> None:
    """Raise `ConfigError` if a request announces another tensor than the model takes."""
    if datatype != info.datatype or tuple(shape) != info.shape:
        raise ConfigError(
            f"input {info.name!r}: the model takes {info.datatype}{list(info.shape)}, "
            f"got {datatype[:20]}{list(shape)[:16]}"
        )


def from_raw(info: TensorInfo, data: bytes | memoryview) -> Array:
    """Return the tensor whose bytes are ``data``.

    Raises:
        ConfigError: If there are too few or too many.
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
    return np.ascontiguousarray(array).tobytes()


def from_values(info: TensorInfo, values: Any) -> Array:
    """Return the tensor with these values: a list, flat or nested, of numbers or booleans.

    Raises:
        ConfigError: If their number, their kind or a value does not fit.
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
            raise ConfigError(f"input {info.name!r}: {value!r:.40} is no value of {info.datatype}")
    try:
        # Through float64 where it is a float, as JSON means it; integers as they are.
        array = np.array(flat, np.float64 if "float" in dtype else NUMPY_DTYPES[dtype])
    except OverflowError as error:
        raise ConfigError(f"input {info.name!r}: a value does not fit {info.datatype}: {error}") from error
    return array.astype(NUMPY_DTYPES[dtype]).reshape(info.shape)


def to_values(info: TensorInfo, array: Array) -> list[Any]:
    """Return the flat values of an output for JSON.

    Raises:
        ConfigError: If one is not finite: JSON has no word for it, binary data has.
    """
    if "FP" in info.datatype or info.datatype == "BF16":
        array = array.astype(np.float64)
        if not np.isfinite(array).all():
            raise ConfigError(
                f"output {info.name!r} is not finite everywhere, which JSON cannot say; ask for binary data"
            )
    values: list[Any] = array.reshape(-1).tolist()
    return values


def _flatten(values: Any, flat: list[Any], *, limit: int, depth: int) -> None:
    if isinstance(values, list):
        if depth == 0:
            raise ConfigError("a tensor's values are nested more deeply than it has dims")
        for item in values:
            _flatten(item, flat, limit=limit, depth=depth - 1)
    elif len(flat) <= limit:  # one too many is enough to be refused
        flat.append(values)


def _info(graph: ModelGraph, tensor: str, name: str) -> TensorInfo:
    spec = graph.specs[tensor]
    return TensorInfo(name, _DATATYPES[spec.dtype], tuple(spec.shape))


def _paths(structure: Structure, path: str) -> Iterator[str]:
    """Where each flat tensor stands: the keys on the way there, and positions below a key."""
    if structure.kind == "tensor":
        yield path
    elif structure.kind == "dict":
        for key, item in zip(structure.keys, structure.items, strict=True):
            yield from _paths(item, f"{path}.{key}" if path else key)
    else:
        for index, item in enumerate(structure.items):
            yield from _paths(item, f"{path}.{index}" if path else "")
