"""Save and load graphs as one safetensors file, without pickle.

Weights are the file's tensors; operators, specs and structures are JSON in its metadata. Loading only reads
data: nothing in the file is imported or run.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from edgeflow.errors import CodecError, ConfigError
from edgeflow.graph.ir import NUMPY_DTYPES, Array, ModelGraph, Operator, Structure, TensorSpec
from edgeflow.graph.verify import verify_graph

_FORMAT = "edgeflow-graph-1"


class _Header(msgspec.Struct, kw_only=True):
    name: str
    operators: tuple[Operator, ...]
    specs: dict[str, TensorSpec]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    weights: tuple[str, ...]
    input_structure: Structure
    output_structure: Structure
    fingerprint: str


def save_graph(graph: ModelGraph, path: str | Path) -> None:
    """Write a graph to one file (by convention ``*.edgeflow``)."""
    header = _Header(
        name=graph.name,
        operators=graph.operators,
        specs=dict(graph.specs),
        inputs=graph.inputs,
        outputs=graph.outputs,
        weights=tuple(graph.weights),
        input_structure=graph.input_structure,
        output_structure=graph.output_structure,
        fingerprint=graph.fingerprint,
    )
    metadata = {"format": _FORMAT, "graph": msgspec.json.encode(header).decode()}
    tensors = {name: _stored(value) for name, value in graph.weights.items()}
    save_file(tensors, str(path), metadata=metadata)


def load_graph(path: str | Path) -> ModelGraph:
    """Read a graph from a file.

    Raises:
        ConfigError: If there is no such file.
        CodecError: If the file cannot be read, is not a graph, or is damaged.
        GraphError: If the graph is not well formed.
    """
    if not Path(path).is_file():
        raise ConfigError(f"no graph file {path}")
    try:
        with safe_open(str(path), framework="numpy") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != _FORMAT:
                raise CodecError(f"{path} is not an edgeflow graph (format {metadata.get('format')!r})")
            header = msgspec.json.decode(metadata["graph"], type=_Header)
            weights = {name: _restored(file.get_tensor(name), header.specs[name]) for name in header.weights}
    except (SafetensorError, msgspec.MsgspecError, KeyError, OSError) as error:
        raise CodecError(f"{path} is not an edgeflow graph: {error}") from error
    graph = ModelGraph(
        name=header.name,
        operators=header.operators,
        specs=header.specs,
        inputs=header.inputs,
        outputs=header.outputs,
        weights=weights,
        input_structure=header.input_structure,
        output_structure=header.output_structure,
    )
    verify_graph(graph)
    if graph.fingerprint != header.fingerprint:
        raise CodecError(
            f"{path} is damaged: its contents have fingerprint {graph.fingerprint}, not {header.fingerprint}"
        )
    return graph


def _stored(value: Array) -> Array:
    # Not every safetensors reader supports bfloat16 in numpy, so its bits are stored as 16-bit integers.
    if value.dtype == NUMPY_DTYPES["bfloat16"]:
        value = value.view(np.int16)
    return np.require(value, requirements="C")  # unlike ascontiguousarray, this keeps 0-d arrays 0-d


def _restored(value: Array, spec: TensorSpec) -> Array:
    if spec.dtype == "bfloat16" and value.dtype == np.int16:
        value = value.view(NUMPY_DTYPES["bfloat16"])
    if value.dtype != NUMPY_DTYPES[spec.dtype]:
        raise CodecError(f"a weight of {value.dtype} is stored where {spec.dtype} is expected")
    return value
