"""Read an ONNX file: its graph, opsets, inputs and tensors, all checked.

Only this module imports the ``onnx`` package. Other modules get protobuf messages unchanged.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from edgeflow.errors import CodecError, ConfigError, GraphError, UnsupportedOperatorError
from edgeflow.graph.ir import NUMPY_DTYPES, Array
from edgeflow.graph.onnx_.node import NEWEST_OPSET
from edgeflow.graph.structure import to_torch

#: ``TensorProto.DataType`` -> dtype, for the dtypes of graphs.
DTYPES: Final[Mapping[int, torch.dtype]] = {
    1: torch.float32,
    2: torch.uint8,
    3: torch.int8,
    5: torch.int16,
    6: torch.int32,
    7: torch.int64,
    9: torch.bool,
    10: torch.float16,
    11: torch.float64,
    16: torch.bfloat16,
}
_BFLOAT16: Final = 16
_EXTERNAL: Final = 1

#: Protobuf's limit for one message; larger models store their weights in other files.
_MAX_FILE_BYTES: Final = 2**31 - 1
#: Limit for the nodes of a model with functions inlined; a small file could stand for billions.
_MAX_NODES: Final = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """An input of a request; an open dim is a string, its name in the file or ``"?"``."""

    name: str
    shape: tuple[int | str, ...] | None
    dtype: torch.dtype


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OnnxFile:
    """A parsed ONNX file.

    Attributes:
        path: The file; external tensors must be in its folder.
        graph: The ``GraphProto``.
        opsets: Domain -> version; the standard domain is empty.
        inputs: In the order of the file, without the initialisers that old files list as inputs.
        outputs: Names, in the order of the file.
        initialisers: Name -> ``TensorProto``.
    """

    path: Path
    graph: Any
    opsets: Mapping[str, int]
    inputs: tuple[Input, ...]
    outputs: tuple[str, ...]
    initialisers: Mapping[str, Any]


def read_file(path: Path) -> OnnxFile:
    """Parse an ONNX file.

    Raises:
        ConfigError: If there is no such file, or the ``onnx`` package is not installed.
        CodecError: If the file is damaged or is not an ONNX model.
        GraphError: If it holds something that a graph cannot represent.
        UnsupportedOperatorError: If its opset is newer than `NEWEST_OPSET`.
    """
    model = _parsed(path)
    graph = model.graph
    if not graph.output:
        raise CodecError(f"{path} is not an ONNX model: it holds no graph with outputs")
    for what in ("input", "output", "initializer"):
        twice = [
            name for name, count in Counter(item.name for item in getattr(graph, what)).items() if count > 1
        ]
        if twice:
            raise CodecError(f"{path}: two entries of its {what}s are called {twice[0]!r}")
    if graph.sparse_initializer:
        raise GraphError(f"{path}: sparse initialisers are not supported")
    opsets = {_domain(item.domain): int(item.version) for item in model.opset_import}
    if opsets.setdefault("", 1) > NEWEST_OPSET:
        raise UnsupportedOperatorError(
            f"{path} uses opset {opsets['']}; this version of edgeflow knows opsets up to {NEWEST_OPSET}"
        )
    initialisers = {item.name: item for item in graph.initializer}
    return OnnxFile(
        path=path,
        graph=graph,
        opsets=opsets,
        inputs=tuple(_input(item, path) for item in graph.input if item.name not in initialisers),
        outputs=tuple(item.name for item in graph.output),
        initialisers=initialisers,
    )


def _parsed(path: Path) -> Any:
    """Return the ``ModelProto`` of a file, with functions inlined."""
    onnx = _import_onnx()
    if not path.is_file():
        raise ConfigError(f"no ONNX file {path}")
    num_bytes = path.stat().st_size
    if num_bytes > _MAX_FILE_BYTES:
        raise CodecError(
            f"{path} has {num_bytes:,} bytes, an ONNX file at most {_MAX_FILE_BYTES:,}; "
            "larger models must store their weights in other files"
        )
    try:
        model = onnx.ModelProto.FromString(path.read_bytes())
        if model.functions:
            _check_functions(model, path)
            model = onnx.inliner.inline_local_functions(model)
    except CodecError:
        raise
    except Exception as error:  # protobuf's error class depends on its version and back end
        raise CodecError(f"{path} is not an ONNX file, or is damaged: {error}") from error
    return model


def _check_functions(model: Any, path: Path) -> None:
    """Raise `CodecError` if inlining functions would make too many nodes, or a function calls itself."""
    bodies = {(_domain(item.domain), item.name): item.node for item in model.functions}
    counts: dict[tuple[str, str], int] = {}
    under_way: set[tuple[str, str]] = set()

    def count(nodes: Iterable[Any]) -> int:
        total = 0
        for node in _with_inner(nodes):
            key = (_domain(node.domain), node.op_type)
            if key in under_way:
                raise CodecError(f"{path}: its function {node.op_type!r} calls itself")
            if key in bodies and key not in counts:
                under_way.add(key)
                counts[key] = count(bodies[key])
                under_way.remove(key)
            total += counts.get(key, 1)
            if total > _MAX_NODES:
                raise CodecError(f"{path} has more than {_MAX_NODES:,} nodes with its functions inlined")
        return total

    count(model.graph.node)


def _with_inner(nodes: Iterable[Any]) -> Iterator[Any]:
    """Yield nodes, and the nodes of subgraphs inside them."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from _with_inner(graph.node)


def _import_onnx() -> Any:
    try:
        import onnx
        import onnx.inliner
        import onnx.numpy_helper
    except ImportError as error:
        raise ConfigError(
            "reading ONNX files needs the onnx package: pip install edgeflow-inference[onnx]"
        ) from error
    return onnx


def _domain(name: str) -> str:
    return "" if name == "ai.onnx" else str(name)


def _input(proto: Any, path: Path) -> Input:
    where = f"{path}: input {proto.name!r}"
    if not proto.type.HasField("tensor_type"):
        raise GraphError(f"{where} is a {proto.type.WhichOneof('value')}, not a tensor")
    tensor = proto.type.tensor_type
    shape = tuple(_dim(dim) for dim in tensor.shape.dim) if tensor.HasField("shape") else None
    return Input(name=proto.name, shape=shape, dtype=dtype_of(tensor.elem_type, where))


def _dim(proto: Any) -> int | str:
    # Some exporters write 0 or -1 for an open dim.
    if proto.HasField("dim_value") and proto.dim_value > 0:
        return int(proto.dim_value)
    return str(proto.dim_param) or "?"


def dtype_of(code: int, where: str) -> torch.dtype:
    """Return the dtype of a ``TensorProto.DataType``; raise `GraphError` if a graph cannot hold it."""
    if code not in DTYPES:
        names = {number: name for name, number in _import_onnx().TensorProto.DataType.items()}
        raise GraphError(
            f"{where} is of type {names.get(code, code)}; supported: {', '.join(sorted(NUMPY_DTYPES))}"
        )
    return DTYPES[code]


def tensor_of(proto: Any, folder: Path) -> torch.Tensor:
    """Return a stored tensor.

    Args:
        proto: A ``TensorProto``.
        folder: The folder of the model file; external bytes must be inside.

    Raises:
        CodecError: If the bytes are missing, outside ``folder``, or too many or too few.
        GraphError: If a graph cannot hold the dtype.
    """
    where = f"tensor {proto.name!r}"
    dtype = NUMPY_DTYPES[str(dtype_of(proto.data_type, where)).removeprefix("torch.")]
    shape = tuple(proto.dims)
    if any(size < 0 for size in shape):
        raise CodecError(f"{where} has the shape {shape}")
    try:
        if proto.data_location == _EXTERNAL:
            array = np.frombuffer(_external(proto, folder, math.prod(shape) * dtype.itemsize), dtype)
        elif proto.data_type == _BFLOAT16 and not proto.raw_data:
            array = np.asarray(proto.int32_data, dtype=np.int32).astype(np.uint16).view(dtype)
        elif proto.data_type == _BFLOAT16:
            array = np.frombuffer(proto.raw_data, dtype)
        else:
            array = _import_onnx().numpy_helper.to_array(proto)
        array = array.reshape(shape)
    except CodecError:
        raise
    except Exception as error:
        raise CodecError(f"{where} of shape {shape} is damaged: {error}") from error
    return _owned(array)


def _owned(array: Array) -> torch.Tensor:
    """Return a tensor over writable memory; a view of the file's bytes is copied, since it is read-only."""
    tensor: torch.Tensor = to_torch(array if array.flags.writeable else array.copy())
    return tensor


def _external(proto: Any, folder: Path, num_bytes: int) -> bytes:
    """Return the bytes of an external tensor, from another file in the model's folder."""
    where = f"tensor {proto.name!r}"
    entries = {item.key: item.value for item in proto.external_data}
    location = entries.get("location", "")
    root = folder.resolve()
    path = (root / location).resolve()
    # The path comes from the model file, which may be malicious: it must not reach the user's other files.
    if not location or not path.is_relative_to(root) or path == root:
        raise CodecError(f"{where} is stored at {location!r}, outside the model's folder {root}")
    if not path.is_file():
        raise CodecError(f"{where}: the model's file {path} is missing")
    offset, length = int(entries.get("offset", 0)), int(entries.get("length", num_bytes))
    if length != num_bytes or offset < 0 or offset + length > path.stat().st_size:
        raise CodecError(
            f"{where} needs {num_bytes} bytes, but is stored as bytes [{offset}:{offset + length}] of "
            f"{path.name}, which has {path.stat().st_size}"
        )
    with path.open("rb") as file:
        file.seek(offset)
        data: bytes = file.read(length)
    return data


def attributes_of(proto: Any, folder: Path) -> dict[str, Any]:
    """Return a node's attributes by name: int, float, str, tensor, ``GraphProto``, or tuples of these."""
    return {item.name: _attribute(item, folder) for item in proto.attribute}


def _attribute(proto: Any, folder: Path) -> Any:
    kind = _import_onnx().AttributeProto.AttributeType.Name(proto.type)
    match kind:
        case "INT":
            return int(proto.i)
        case "FLOAT":
            return float(proto.f)
        case "STRING":
            return _text(proto.s)
        case "TENSOR":
            return tensor_of(proto.t, folder)
        case "GRAPH":
            return proto.g
        case "INTS":
            return tuple(int(value) for value in proto.ints)
        case "FLOATS":
            return tuple(float(value) for value in proto.floats)
        case "STRINGS":
            return tuple(_text(value) for value in proto.strings)
    raise GraphError(f"an attribute ({proto.name!r}) of type {kind} is not supported")


def _text(value: bytes) -> str:
    return value.decode("utf-8", errors="replace")
