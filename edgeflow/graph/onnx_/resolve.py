"""Evaluate everything of an ONNX graph that does not depend on a request.

Every node is run once: on values if all its inputs are known, otherwise on ``meta`` tensors, which have
shapes but no values. Shapes are fixed, so everything that ONNX graphs compute from them (``Shape``,
``Gather``, ``Concat``, ``Reshape``) is known, and so is the branch that an ``If`` takes. The rest is a list
of calls.
"""

from __future__ import annotations

import math
from collections import ChainMap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from edgeflow.errors import CodecError, EdgeflowError, GraphError, UnsupportedOperatorError
from edgeflow.graph.ir import Array
from edgeflow.graph.onnx_.node import Node, Operation
from edgeflow.graph.onnx_.ops import find
from edgeflow.graph.onnx_.read import OnnxFile, attributes_of, tensor_of
from edgeflow.graph.structure import to_array

#: Limit for the bytes that evaluating a file may make: a fixed number plus a number per stored byte, since
#: weights are transposed, joined and widened. Only a malicious file makes gigabytes from a few numbers.
_MADE_BYTES: Final = 2**32
_MADE_BYTES_PER_STORED: Final = 8
_LOOPS: Final = frozenset({":Loop", ":Scan"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A node that must run for every request.

    Attributes:
        node: The node.
        operation: The function that implements it.
        inputs: Names of tensors; None for an optional input that is absent, or an input in `arrays`.
        arrays: Position -> value, for inputs that the function takes as arrays.
    """

    node: Node
    operation: Operation
    inputs: tuple[str | None, ...]
    arrays: Mapping[int, Array]

    def run(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the outputs that are read, by name."""
        arguments = [
            self.arrays[index] if index in self.arrays else None if name is None else values[name]
            for index, name in enumerate(self.inputs)
        ]
        made = self.operation.function(self.node, *arguments)
        results = made if isinstance(made, tuple | list) else (made,)
        wanted = {name: index for index, name in enumerate(self.node.outputs) if name}
        for name, index in wanted.items():
            if index >= len(results) or results[index] is None:
                raise self.node.unsupported(f"its output {index} ({name!r}) is not supported")
        return {name: _tensor(results[index]) for name, index in wanted.items()}


def _tensor(value: Any) -> Tensor:
    assert isinstance(value, Tensor)
    return value


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Resolved:
    """An ONNX graph for fixed shapes.

    Attributes:
        inputs: Names, in order.
        outputs: Name in the file -> name of the tensor.
        known: Tensors that calls or outputs read and that do not depend on a request: weights.
        calls: In topological order.
    """

    inputs: tuple[str, ...]
    outputs: Mapping[str, str]
    known: Mapping[str, Tensor]
    calls: tuple[Call, ...]


def resolve(file: OnnxFile, shapes: Mapping[str, tuple[int, ...]]) -> Resolved:
    """Evaluate everything that does not depend on a request.

    Args:
        shapes: Shape of every input.

    Raises:
        UnsupportedOperatorError: If a node cannot be computed exactly, or needs a value that depends on a
            request.
        CodecError: If the file violates the specification.
        GraphError: If the file holds something that a graph cannot represent.
    """
    state = _State(opsets=file.opsets, folder=file.path.parent, bytes_left=_MADE_BYTES)
    for item in file.inputs:
        state.values[item.name] = torch.empty(shapes[item.name], dtype=item.dtype, device="meta")
    scope: ChainMap[str, str] = ChainMap({item.name: item.name for item in file.inputs})
    try:
        with torch.no_grad():
            outputs = _run_graph(file.graph, scope, state, prefix="")
    except EdgeflowError as error:
        error.args = (f"{file.path.name}: {error}",)
        raise
    names = dict(zip(file.outputs, outputs, strict=True))
    read = {name for call in state.calls for name in call.inputs} | set(outputs)
    return Resolved(
        inputs=tuple(item.name for item in file.inputs),
        outputs=names,
        known={name: value for name, value in state.values.items() if name in read and not value.is_meta},
        calls=tuple(state.calls),
    )


@dataclass(kw_only=True)
class _State:
    """Tensors by unique name (real or ``meta``), the calls so far, and the bytes that may still be made."""

    opsets: Mapping[str, int]
    folder: Path
    values: dict[str, Tensor] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    bytes_left: int

    def store(self, name: str, proto: Any) -> None:
        """Load a weight from the file."""
        value = tensor_of(proto, self.folder)
        self.values[name] = value
        self.bytes_left += _MADE_BYTES_PER_STORED * value.nbytes

    def charge(self, node: Node, results: Iterable[Tensor]) -> None:
        """Subtract the bytes of ``results``; raise `UnsupportedOperatorError` if the limit is exceeded."""
        self.bytes_left -= sum(value.nbytes for value in results)
        if self.bytes_left < 0:
            raise node.unsupported(
                f"the file up to here evaluates to {-self.bytes_left:,} bytes more than its weights explain"
            )


def _run_graph(graph: Any, scope: ChainMap[str, str], state: _State, *, prefix: str) -> list[str]:
    """Run a graph, or a branch of an ``If``, and return the unique names of its outputs.

    Args:
        graph: The ``GraphProto``.
        scope: Name in the file -> unique name; a branch sees the names of the graph around it.
        state: Updated with new tensors and calls.
        prefix: Makes the names of a branch unique.
    """
    nodes, wanted = _live(graph)
    for proto in graph.initializer:
        if proto.name in wanted:
            scope[proto.name] = prefix + proto.name
            state.store(prefix + proto.name, proto)
    _refuse_unknown(nodes, state)
    for proto in nodes:
        # Drop outputs that are not read: old files name the mask of every Dropout.
        outputs = [name if name in wanted else "" for name in proto.output]
        scope.update(_run_node(proto, outputs, scope, state, prefix))
    return [_lookup(item.name, scope, "the graph's outputs") for item in graph.output]


def _lookup(name: str, scope: Mapping[str, str], where: str) -> str:
    if name not in scope:
        raise CodecError(f"{where}: no earlier node makes {name!r}")
    return scope[name]


def _live(graph: Any) -> tuple[list[Any], set[str]]:
    """Return the nodes that the outputs depend on, in order, and all names that are read."""
    wanted = {item.name for item in graph.output}
    live = []
    for node in reversed(graph.node):
        if any(name in wanted for name in node.output if name):
            live.append(node)
            wanted.update(_reads(node))
    return live[::-1], wanted


def _reads(node: Any) -> Iterator[str]:
    """Yield the names that a node or its subgraphs read, including names local to the subgraphs."""
    yield from (name for name in node.input if name)
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs) if attribute.HasField("g") else attribute.graphs:
            yield from (item.name for item in graph.output)
            for inner in graph.node:
                yield from _reads(inner)


def _refuse_unknown(nodes: Iterable[Any], state: _State) -> None:
    """Raise one `UnsupportedOperatorError` that names all operators without an implementation."""
    missing: dict[str, str] = {}
    for proto in nodes:
        node = _node(proto, state)
        if proto.op_type != "If" and find(node.op_type, domain=node.domain, opset=node.opset) is None:
            missing.setdefault(f"{node.domain}:{node.op_type}", node.where)
    if missing:
        words = "operators are" if len(missing) > 1 else "operator is"
        loops = _LOOPS & missing.keys()
        why = " (the length of loops depends on a request; a graph is fixed)" if loops else ""
        raise UnsupportedOperatorError(
            f"{len(missing)} {words} not supported: {'; '.join(missing.values())}{why}",
            operator=next(iter(missing)).partition(":")[2],
        )


def _node(proto: Any, state: _State, **changes: Any) -> Node:
    domain = "" if proto.domain == "ai.onnx" else str(proto.domain)
    fields: dict[str, Any] = {
        "op_type": str(proto.op_type),
        "name": str(proto.name),
        "domain": domain,
        "opset": state.opsets.get(domain, 1),
        "attributes": {},
        "outputs": tuple(proto.output),
    }
    return Node(**{**fields, **changes})


def _run_node(
    proto: Any, outputs: list[str], scope: ChainMap[str, str], state: _State, prefix: str
) -> dict[str, str]:
    """Run a node; return name in the file -> unique name for its outputs."""
    bare = _node(proto, state)
    inputs = [_lookup(name, scope, bare.where) if name else None for name in proto.input]
    if proto.op_type == "If" and not bare.domain:
        return _run_branch(proto, inputs, scope, state, prefix)
    made = {name: prefix + name for name in outputs if name}
    for name in made:
        if name in scope.maps[0]:
            raise CodecError(f"{bare.where} makes {name!r}, which already exists")
    node = _node(
        proto,
        state,
        attributes=attributes_of(proto, state.folder),
        outputs=tuple(prefix + name if name else "" for name in outputs),
        known=tuple(name is not None and not state.values[name].is_meta for name in inputs),
    )
    operation = find(node.op_type, domain=node.domain, opset=node.opset)
    assert operation is not None, node.where
    call = _call(node, operation, inputs, state.values)
    results = _results(call, state)
    state.values.update(results)
    if any(value.is_meta for value in results.values()):
        state.calls.append(call)
    return made


def _run_branch(
    proto: Any, inputs: list[str | None], scope: ChainMap[str, str], state: _State, prefix: str
) -> dict[str, str]:
    node = _node(proto, state)
    condition = state.values[inputs[0]] if inputs and inputs[0] is not None else None
    if condition is None or condition.numel() != 1:
        raise node.malformed("it has no condition of one element")
    if condition.is_meta:
        raise node.unsupported("its condition depends on the values of a request")
    key = "then_branch" if bool(condition) else "else_branch"
    branches = [item.g for item in proto.attribute if item.name == key]
    if not branches:
        raise node.malformed(f"the attribute {key!r} is missing")
    outputs = _run_graph(branches[0], scope.new_child(), state, prefix=f"{prefix}{proto.output[0]}/")
    if len(outputs) != len(proto.output):
        raise node.malformed(f"the branch makes {len(outputs)} outputs for {len(proto.output)}")
    return {name: unique for name, unique in zip(proto.output, outputs, strict=True) if name}


def _call(node: Node, operation: Operation, inputs: list[str | None], values: Mapping[str, Tensor]) -> Call:
    """Return the call of a node: bind each input to a parameter, as an array or as a tensor."""
    parameters = operation.parameters
    while inputs and inputs[-1] is None:
        inputs = inputs[:-1]
    if len(inputs) > len(parameters) and not operation.is_variadic:
        raise node.unsupported(f"{len(inputs)} inputs are given; up to {len(parameters)} are supported")
    for index, parameter in enumerate(parameters[: operation.num_required]):
        if index >= len(inputs) or inputs[index] is None:
            raise node.malformed(f"the input {index} ({parameter!r}) is missing")
    arrays = {}
    for index, (parameter, name) in enumerate(zip(parameters, inputs, strict=False)):
        if name is None or parameter not in operation.constants | operation.if_known:
            continue
        if not values[name].is_meta:
            arrays[index] = to_array(values[name])
        elif parameter in operation.constants:
            raise node.unsupported(
                f"its input {index} ({parameter}: {name!r}) must be fixed, but depends on values of a request"
            )
    tensors = tuple(None if index in arrays else name for index, name in enumerate(inputs))
    return Call(node=node, operation=operation, inputs=tensors, arrays=arrays)


def _results(call: Call, state: _State) -> dict[str, Tensor]:
    """Return a call's results: values if all inputs are known, otherwise ``meta`` tensors.

    The call first runs on ``meta`` tensors, so that results that are too large are refused unmade.
    """
    known = {name: state.values[name] for name in call.inputs if name is not None}
    given = {name: value.to("meta") for name, value in known.items()}
    try:
        results = call.run(given)
        if not any(value.is_meta for value in known.values()):
            state.charge(call.node, results.values())
            results = call.run(known)
    except EdgeflowError:
        raise
    except Exception as error:
        # Shapes that do not fit or dtypes that torch lacks: quote torch's message, and name the node.
        shapes = ", ".join(f"{tuple(value.shape)} {_short(value.dtype)}" for value in given.values())
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise GraphError(f"{call.node.where} cannot be run on ({shapes}): {first}") from error
    for name, value in results.items():
        if value.is_meta and math.prod(value.shape) == 0:
            raise GraphError(
                f"{call.node.where}: its output {name!r} is empty, of shape {tuple(value.shape)}"
            )
    return results


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
