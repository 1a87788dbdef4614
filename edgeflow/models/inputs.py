"""Random inputs for a graph, and the graph's own answer without a plan."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from edgeflow.graph.ir import NUMPY_DTYPES, Array, ModelGraph, Structure, TensorSpec


def run_graph(graph: ModelGraph, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Return the answer of a graph whose operators run whole, one after the other."""
    from edgeflow.graph.aten import evaluate_graph
    from edgeflow.graph.structure import flatten_inputs, unflatten_outputs

    return unflatten_outputs(graph, evaluate_graph(graph, flatten_inputs(graph, args, kwargs)))


def random_inputs(graph: ModelGraph, *, seed: int) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
    """Return inputs of the right shapes: normally distributed floats, integers 0, booleans True.

    Integers may be indices, and 0 is a valid index of every table.
    """
    rng = np.random.default_rng(seed)
    leaves = iter([_random(graph.specs[name], rng) for name in graph.inputs])

    def build(structure: Structure) -> Any:
        if structure.kind == "tensor":
            return next(leaves)
        if structure.kind == "const":
            return structure.value
        items = [build(item) for item in structure.items]
        if structure.kind == "dict":
            return dict(zip(structure.keys, items, strict=True))
        return tuple(items) if structure.kind == "tuple" else items

    args, kwargs = build(graph.input_structure)
    return tuple(args), kwargs


def _random(spec: TensorSpec, rng: np.random.Generator) -> Array:
    dtype = NUMPY_DTYPES[spec.dtype]
    if "float" in spec.dtype:
        return np.asarray(rng.standard_normal(spec.shape), dtype=dtype)
    if spec.dtype == "bool":
        return np.ones(spec.shape, dtype=dtype)
    return np.zeros(spec.shape, dtype=dtype)
