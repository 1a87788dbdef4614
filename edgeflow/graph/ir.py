"""The graph of a model: operators and named tensors, frozen.

An `Operator` is one ATen call, with arguments by name and every default filled in, so it can be run even if
edgeflow has no rule for it. Weights are tensors whose values the graph holds. Operators are in topological
order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from typing import Any, TypeVar

import ml_dtypes
import msgspec
import networkx as nx
import numpy as np
import numpy.typing as npt

from edgeflow.dtypes import bytes_of
from edgeflow.errors import GraphError

Array = npt.NDArray[Any]

#: torch's dtype names without the prefix -> numpy dtypes; ml_dtypes adds bfloat16 to numpy. Weights may also
#: have the packed dtypes of `edgeflow.dtypes`.
NUMPY_DTYPES: dict[str, np.dtype[Any]] = {
    "float32": np.dtype(np.float32),
    "float64": np.dtype(np.float64),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "int64": np.dtype(np.int64),
    "int32": np.dtype(np.int32),
    "int16": np.dtype(np.int16),
    "int8": np.dtype(np.int8),
    "uint8": np.dtype(np.uint8),
    "bool": np.dtype(np.bool_),
}


class TensorSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Shape and dtype of a tensor."""

    shape: tuple[int, ...]
    dtype: str = "float32"

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def num_elements(self) -> int:
        count = 1
        for size in self.shape:
            count *= size
        return count

    @property
    def itemsize(self) -> int:
        """Bytes of one element on its own; of 4-bit dtypes a whole byte, so for many use `num_bytes`."""
        return bytes_of(1, self.dtype)

    @property
    def num_bytes(self) -> int:
        return bytes_of(self.num_elements, self.dtype)


class TensorRef(msgspec.Struct, frozen=True, tag="tensor"):
    """An argument that is a tensor of the graph."""

    name: str


class Symbol(msgspec.Struct, frozen=True, tag="symbol"):
    """An argument that is neither a number nor a tensor: ``Symbol("dtype", "float32")``.

    Kinds: ``dtype``, ``layout``, ``memory_format``, ``device`` (its value is empty, since the executor
    chooses the device) and ``float`` for values that JSON cannot represent (``inf``, ``-inf``, ``nan``).
    """

    kind: str
    value: str


Scalar = None | bool | int | float | str | TensorRef | Symbol
Value = Scalar | tuple[Scalar, ...]


class Operator(msgspec.Struct, frozen=True, kw_only=True, cache_hash=True, dict=True):
    """One ATen call.

    Attributes:
        name: Unique in the graph; shown in traces and messages.
        target: The overload, for example ``aten.conv2d.default``.
        arguments: ``(name, value)`` in the order of the schema, defaults filled in.
        outputs: Names of the tensors that it makes; ``""`` for an output that is not read.
    """

    name: str
    target: str
    arguments: tuple[tuple[str, Value], ...]
    outputs: tuple[str, ...]

    def arg(self, name: str) -> Any:
        """Return the argument called ``name``; raise `GraphError` if the operator has none."""
        for key, value in self.arguments:
            if key == name:
                return value
        raise GraphError(f"operator {self.name} ({self.target}) has no argument {name!r}")

    @property
    def output(self) -> str:
        """The first output; the only one of most operators."""
        return self.outputs[0]

    @cached_property
    def used_outputs(self) -> tuple[str, ...]:
        """The outputs that are read."""
        return tuple(name for name in self.outputs if name)

    @property
    def first_output(self) -> str:
        """The first output that is read. Operators with several outputs are cut by the region of this one.

        Examples:
            >>> Operator(name="max", target="aten.max.dim", arguments=(), outputs=("", "at")).first_output
            'at'
        """
        return self.used_outputs[0]

    @cached_property
    def inputs(self) -> tuple[str, ...]:
        """Names of tensor arguments in order; a tensor that is read twice appears twice."""
        return tuple(ref.name for ref in iter_refs(self.arguments))


def iter_refs(arguments: tuple[tuple[str, Value], ...]) -> Iterator[TensorRef]:
    """Yield every tensor argument in order, including those inside lists."""
    for _, value in arguments:
        if isinstance(value, TensorRef):
            yield value
        elif isinstance(value, tuple):
            for item in value:
                if isinstance(item, TensorRef):
                    yield item


class Structure(msgspec.Struct, frozen=True, kw_only=True):
    """How flat tensors are nested in the inputs or outputs of a module.

    Attributes:
        kind: ``tensor`` (the next flat tensor), ``const``, ``tuple``, ``list`` or ``dict``.
        items: Items of a tuple, list or dict.
        keys: Keys of a dict's items.
        value: The value of a constant.
        type_name: The original class, for display.
    """

    kind: str
    items: tuple[Structure, ...] = ()
    keys: tuple[str, ...] = ()
    value: None | bool | int | float | str = None
    type_name: str = ""

    @property
    def num_tensors(self) -> int:
        return 1 if self.kind == "tensor" else sum(item.num_tensors for item in self.items)


_Found = TypeVar("_Found")


@dataclass(frozen=True, kw_only=True, eq=False)
class ModelGraph:
    """A captured model: a DAG of operators over named tensors. Compared by identity; see `fingerprint`.

    Attributes:
        name: Name for display.
        operators: In topological order.
        specs: Shape and dtype of every tensor: inputs, weights, results.
        inputs: Names of the tensors of a request, in flat order.
        outputs: Names of the tensors of the answer, in flat order.
        weights: Values of constant tensors.
        input_structure: How the flat inputs nest as ``(args, kwargs)``.
        output_structure: How the flat outputs nest.
        unflatten: Rebuilds the module's return type from flat outputs. Only set in the process that captured
            the model; elsewhere `output_structure` is used.
    """

    name: str
    operators: tuple[Operator, ...]
    specs: Mapping[str, TensorSpec]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    weights: Mapping[str, Array]
    input_structure: Structure
    output_structure: Structure
    unflatten: Any = field(default=None, compare=False, repr=False)

    @cached_property
    def _remembered(self) -> dict[Any, Any]:
        return {}

    def remembered(self, find: Callable[[ModelGraph], _Found]) -> _Found:
        """Return ``find(graph)``, computed once and cached as long as the graph lives."""
        if find not in self._remembered:
            self._remembered[find] = find(self)
        found: _Found = self._remembered[find]
        return found

    @cached_property
    def producer(self) -> Mapping[str, Operator]:
        """Tensor name -> the operator that makes it; without inputs and weights."""
        return {name: op for op in self.operators for name in op.used_outputs}

    @cached_property
    def consumers(self) -> Mapping[str, tuple[Operator, ...]]:
        """Tensor name -> the operators that read it, in topological order, each once."""
        found: dict[str, list[Operator]] = {}
        for op in self.operators:
            for name in dict.fromkeys(op.inputs):
                found.setdefault(name, []).append(op)
        return {name: tuple(ops) for name, ops in found.items()}

    @cached_property
    def by_name(self) -> Mapping[str, Operator]:
        return {op.name: op for op in self.operators}

    @cached_property
    def alive_bytes(self) -> tuple[int, ...]:
        """Entry i: bytes of results made before operator i that it, a later one, or the client reads."""
        count = len(self.operators)
        changes = [0] * (count + 2)
        position = {op.name: index for index, op in enumerate(self.operators)}
        for op in self.operators:
            for name in op.outputs:
                readers = self.consumers.get(name, ())
                last = count if name in self.outputs else max((position[r.name] for r in readers), default=0)
                if name and last:
                    changes[position[op.name] + 1] += self.specs[name].num_bytes
                    changes[last + 1] -= self.specs[name].num_bytes
        return tuple(accumulate(changes[: count + 1]))

    def activation_inputs(self, op: Operator) -> tuple[str, ...]:
        """Return the inputs of ``op`` that are not weights, each once."""
        return self._activation_inputs[op.name]

    @cached_property
    def _activation_inputs(self) -> Mapping[str, tuple[str, ...]]:
        return {
            op.name: tuple(name for name in dict.fromkeys(op.inputs) if name not in self.weights)
            for op in self.operators
        }

    @property
    def weight_bytes(self) -> int:
        return sum(self.specs[name].num_bytes for name in self.weights)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of operators, inputs, outputs, specs and values of weights; `name` does not count."""
        digest = hashlib.blake2b(digest_size=16)
        digest.update(msgspec.json.encode([self.operators, self.inputs, self.outputs]))
        for name in sorted(self.specs):
            digest.update(msgspec.json.encode([name, self.specs[name]]))
        for name in sorted(self.weights):
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(self.weights[name]).reshape(-1).view(np.uint8).data)
        return digest.hexdigest()

    def to_networkx(self) -> nx.DiGraph:
        """Return the DAG: operators as vertices, activations as edges with ``tensor`` and ``num_bytes``."""
        dag: nx.DiGraph = nx.DiGraph(name=self.name)
        for op in self.operators:
            dag.add_node(op.name, target=op.target)
        for op in self.operators:
            for name in self.activation_inputs(op):
                if name in self.producer:
                    dag.add_edge(
                        self.producer[name].name, op.name, tensor=name, num_bytes=self.specs[name].num_bytes
                    )
        return dag

    def __repr__(self) -> str:
        return f"ModelGraph({self.name!r}, {len(self.operators)} operators, {len(self.weights)} weights)"
