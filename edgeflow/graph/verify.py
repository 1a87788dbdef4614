"""Invariants of every `ModelGraph`, checked after capture and after loading."""

from __future__ import annotations

from edgeflow.errors import CyclicGraphError, GraphError
from edgeflow.graph.ir import ModelGraph


def verify_graph(graph: ModelGraph) -> None:
    """Check names, order and specs.

    Raises:
        CyclicGraphError: If an operator reads a tensor that is made after it.
        GraphError: If two operators share a name, a tensor has no spec or no source or is made twice, a
            weight does not match its spec, or the output structure does not match the number of outputs.
    """
    made = set(graph.inputs) | set(graph.weights)
    later = {name for op in graph.operators for name in op.used_outputs}
    names: set[str] = set()
    for op in graph.operators:
        if op.name in names:
            raise GraphError(f"two operators are called {op.name!r}")
        names.add(op.name)
        for name in op.inputs:
            if name not in made and name in later:
                raise CyclicGraphError(f"operator {op.name!r} reads {name!r}, which is made after it")
            if name not in made:
                raise GraphError(f"operator {op.name!r} reads {name!r}, which nothing makes")
        for name in op.outputs:
            if name in made:
                raise GraphError(f"tensor {name!r} is made twice, again by operator {op.name!r}")
            if name:
                made.add(name)
    for name in graph.outputs:
        if name not in made:
            raise GraphError(f"output {name!r} is made by nothing")
    for name in made:
        if name not in graph.specs:
            raise GraphError(f"tensor {name!r} has no shape and dtype")
    for name, value in graph.weights.items():
        if tuple(value.shape) != graph.specs[name].shape:
            raise GraphError(
                f"weight {name!r} has shape {tuple(value.shape)}, its spec says {graph.specs[name].shape}"
            )
    if graph.output_structure.num_tensors != len(graph.outputs):
        raise GraphError(
            f"the output's structure holds {graph.output_structure.num_tensors} tensors, "
            f"the graph has {len(graph.outputs)} outputs"
        )
