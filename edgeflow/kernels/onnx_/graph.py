"""An ONNX graph under construction: nodes, small constants, weights by reference; every shape is known.

Emitters build steps from the methods of this class. Each method returns the value that it adds, with its
shape and dtype, so that a step's result can be compared with the shape that the program expects.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper

from edgeflow.graph.ir import NUMPY_DTYPES, Array
from edgeflow.kernels.onnx_.values import (
    ONNX_DTYPES,
    CannotEmit,
    Operand,
    Value,
    broadcast_shapes,
    dim_of,
    dtype_name,
    result_dtype,
)

#: Opset 20 adds `Gelu`; onnxruntime supports it since 1.17. Later opsets add nothing that we would use.
OPSET: Final = 20
_IR_VERSION: Final = 9
#: Operators that onnxruntime adds.
MICROSOFT: Final = "com.microsoft"

Mark = tuple[int, int]


class _Live(NamedTuple):
    nodes: list[NodeProto]
    read: set[str]
    num_nodes: int


class Graph:
    """A graph that emitters extend; `rollback` to a `mark` removes the nodes that a failed step has added."""

    def __init__(self) -> None:
        self._nodes: list[NodeProto] = []
        self._count = 0
        self._constants: dict[tuple[str, tuple[int, ...], bytes], Value] = {}
        self._arrays: dict[str, Array] = {}
        self._weights: dict[str, Array] = {}
        self._inputs: list[Value] = []
        self._outputs: list[Value] = []
        self._found: _Live | None = None

    # Inputs, outputs, weights and constants.

    def input(self, shape: tuple[int, ...], dtype: str) -> Value:
        value = Value(f"x{len(self._inputs)}", shape, dtype)
        self._inputs.append(value)
        return value

    def output(self, value: Value) -> None:
        """Add an output. An input, a constant, or a value that is an output already gets another name.

        A node's result keeps its own name: onnxruntime 1.32 removes the ``Identity`` of a value and then,
        when it fuses a ``Pad`` of the same value into a convolution, looks for the removed name.
        """
        if any(value.name in node.output for node in self._nodes) and value not in self._outputs:
            self._outputs.append(value)
            return
        name = f"y{len(self._outputs)}"
        self._nodes.append(helper.make_node("Identity", [value.name], [name]))
        self._outputs.append(Value(name, value.shape, value.dtype))

    def weight(self, array: Array) -> Value:
        """Add a constant that is not copied: the model refers to the array."""
        name = f"w{len(self._weights)}"
        self._weights[name] = array
        return Value(name, array.shape, dtype_name(array.dtype))

    def constant(self, data: Any, dtype: str | None = None) -> Value:
        """Return a small constant; equal constants are stored once."""
        array = np.asarray(data, dtype=None if dtype is None else NUMPY_DTYPES[dtype])
        key = (str(array.dtype), array.shape, array.tobytes())
        if key not in self._constants:
            name = f"c{len(self._constants)}"
            self._arrays[name] = array
            self._constants[key] = Value(name, array.shape, dtype_name(array.dtype))
        return self._constants[key]

    def known(self, value: Value) -> Array | None:
        """Return the content of a constant or a weight; None for a computed value."""
        array = self._arrays.get(value.name)
        return self._weights.get(value.name) if array is None else array

    def ints(self, *values: int) -> Value:
        return self.constant(np.array(values, np.int64))

    def mark(self) -> Mark:
        return len(self._nodes), self._count

    def rollback(self, mark: Mark) -> None:
        del self._nodes[mark[0] :]
        self._count = mark[1]

    @property
    def inputs(self) -> tuple[Value, ...]:
        """Return the inputs that an output depends on."""
        return tuple(value for value in self._inputs if value.name in self._live().read)

    @property
    def outputs(self) -> tuple[Value, ...]:
        return tuple(self._outputs)

    @property
    def weights(self) -> dict[str, Array]:
        """Return the weights that an output depends on, by their name in the model."""
        read = self._live().read
        return {name: array for name, array in self._weights.items() if name in read}

    def model(self) -> ModelProto:
        """Return the model; weights are external data, which the caller supplies to the session."""
        live = self._live()
        initializers = [_inline(name, array) for name, array in self._arrays.items() if name in live.read] + [
            _external(name, array) for name, array in self.weights.items()
        ]
        graph = helper.make_graph(
            live.nodes,
            "kernels",
            [_info(value) for value in self.inputs],
            [_info(value) for value in self._outputs],
            initializers,
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)]
        return helper.make_model(
            graph, ir_version=_IR_VERSION, opset_imports=opsets, producer_name="edgeflow"
        )

    def _live(self) -> _Live:
        """Return the nodes and names that the outputs depend on; found again after nodes were added."""
        if self._found is None or self._found.num_nodes != len(self._nodes):
            wanted = {value.name for value in self._outputs}
            nodes = []
            for node in reversed(self._nodes):
                if not wanted.isdisjoint(node.output):
                    nodes.append(node)
                    wanted.update(node.input)
            self._found = _Live(nodes[::-1], wanted, len(self._nodes))
        return self._found

    # Nodes.

    def node(
        self,
        op: str,
        inputs: Sequence[Value | None],
        shape: tuple[int, ...],
        dtype: str,
        *,
        domain: str = "",
        **attributes: Any,
    ) -> Value:
        """Add a node of one output, of the shape and dtype that the caller states."""
        return self.nodes(op, inputs, [(shape, dtype)], domain=domain, **attributes)[0]

    def nodes(
        self,
        op: str,
        inputs: Sequence[Value | None],
        outputs: Sequence[tuple[tuple[int, ...], str]],
        *,
        domain: str = "",
        **attributes: Any,
    ) -> list[Value]:
        """Add a node of several outputs."""
        made = [
            Value(f"v{self._count + index}", tuple(shape), dtype)
            for index, (shape, dtype) in enumerate(outputs)
        ]
        self._count += len(made)
        names = ["" if value is None else value.name for value in inputs]
        while names and not names[-1]:
            names.pop()
        given = {key: value for key, value in attributes.items() if value is not None}
        if any(value is not None and value.dtype == "float64" for value in inputs):
            _check_single(op, given)
        self._nodes.append(
            helper.make_node(op, names, [value.name for value in made], domain=domain, **given)
        )
        return made

    # Dtypes and numbers.

    def cast(self, x: Value, dtype: str) -> Value:
        if x.dtype == dtype:
            return x
        return self.node("Cast", [x], x.shape, dtype, to=ONNX_DTYPES[dtype])

    def of(self, operand: Operand, dtype: str) -> Value:
        """Return an operand as a value of this dtype."""
        if isinstance(operand, Value):
            return self.cast(operand, dtype)
        return self.constant(operand, dtype)

    def unary(self, op: str, x: Value, dtype: str | None = None, **attributes: Any) -> Value:
        return self.node(op, [x], x.shape, dtype or x.dtype, **attributes)

    def binary(self, op: str, a: Operand, b: Operand, *, dtype: str | None = None) -> Value:
        """Add a broadcasting operation; operands are cast to one dtype, by default torch's promotion."""
        dtype = dtype or result_dtype(a, b)
        left, right = self.of(a, dtype), self.of(b, dtype)
        return self.node(op, [left, right], broadcast_shapes(left.shape, right.shape), dtype)

    def compare(self, op: str, a: Operand, b: Operand) -> Value:
        dtype = result_dtype(a, b)
        left, right = self.of(a, dtype), self.of(b, dtype)
        return self.node(op, [left, right], broadcast_shapes(left.shape, right.shape), "bool")

    def add(self, a: Operand, b: Operand) -> Value:
        return self.binary("Add", a, b)

    def sub(self, a: Operand, b: Operand) -> Value:
        return self.binary("Sub", a, b)

    def mul(self, a: Operand, b: Operand) -> Value:
        return self.binary("Mul", a, b)

    def where(self, condition: Value, a: Operand, b: Operand, *, dtype: str | None = None) -> Value:
        dtype = dtype or result_dtype(a, b)
        yes, no = self.of(a, dtype), self.of(b, dtype)
        shape = broadcast_shapes(condition.shape, yes.shape, no.shape)
        return self.node("Where", [self.cast(condition, "bool"), yes, no], shape, dtype)

    # Movement.

    def reshape(self, x: Value, shape: Sequence[int]) -> Value:
        """Reshape; one size may be -1."""
        sizes = list(shape)
        if -1 in sizes:
            rest = math.prod(size for size in sizes if size != -1)
            sizes[sizes.index(-1)] = math.prod(x.shape) // max(1, rest)
        if tuple(sizes) == x.shape:
            return x
        return self.node("Reshape", [x, self.ints(*sizes)], tuple(sizes), x.dtype, allowzero=1)

    def transpose(self, x: Value, order: Sequence[int]) -> Value:
        order = [dim_of(dim, x.ndim) for dim in order]
        if order == list(range(x.ndim)):
            return x
        return self.node("Transpose", [x], tuple(x.shape[dim] for dim in order), x.dtype, perm=order)

    def swap(self, x: Value, first: int, second: int) -> Value:
        order = list(range(x.ndim))
        if order:
            a, b = dim_of(first, x.ndim), dim_of(second, x.ndim)
            order[a], order[b] = order[b], order[a]
        return self.transpose(x, order)

    def expand(self, x: Value, shape: Sequence[int]) -> Value:
        if tuple(shape) == x.shape:
            return x
        return self.node("Expand", [x, self.ints(*shape)], tuple(shape), x.dtype)

    def slice(self, x: Value, starts: Sequence[int], stops: Sequence[int], dims: Sequence[int],
              steps: Sequence[int] | None = None) -> Value:  # fmt: skip
        """Take ``[start, stop)`` of each of ``dims``; bounds lie inside, steps are positive."""
        shape, chosen = list(x.shape), []
        for start, stop, dim, step in zip(starts, stops, dims, steps or [1] * len(dims), strict=True):
            if (start, stop, step) != (0, x.shape[dim], 1):
                shape[dim] = max(0, -(-(stop - start) // step))
                chosen.append((start, stop, dim, step))
        if not chosen:
            return x
        inputs = [self.ints(*column) for column in zip(*chosen, strict=True)]
        return self.node("Slice", [x, *inputs], tuple(shape), x.dtype)

    def concat(self, parts: Sequence[Value], dim: int) -> Value:
        if len(parts) == 1:
            return parts[0]
        shape = list(parts[0].shape)
        shape[dim] = sum(part.shape[dim] for part in parts)
        return self.node("Concat", parts, tuple(shape), parts[0].dtype, axis=dim)

    def gather(self, x: Value, index: Value, dim: int) -> Value:
        """Take the entries of one dim at ``index``, of any shape; negative indices count from the end."""
        shape = (*x.shape[:dim], *index.shape, *x.shape[dim + 1 :])
        return self.node("Gather", [x, index], shape, x.dtype, axis=dim)

    def pad(self, x: Value, before: Sequence[int], after: Sequence[int], value: Operand) -> Value:
        """Pad every dim; negative numbers crop."""
        if not any(before) and not any(after):
            return x
        shape = tuple(size + a + b for size, a, b in zip(x.shape, before, after, strict=True))
        if min(shape, default=0) < 0:
            raise CannotEmit(f"a pad to {shape}")
        low, high = [min(0, a) for a in before], [min(0, b) for b in after]
        if any(low) or any(high):
            dims = range(x.ndim)
            x = self.slice(x, [-a for a in low], [x.shape[dim] + high[dim] for dim in dims], dims)
        grown = [max(0, a) for a in (*before, *after)]
        if not any(grown):
            return x
        if x.dtype == "bool":
            wide = self.pad(self.cast(x, "uint8"), grown[: x.ndim], grown[x.ndim :], value)
            return self.cast(wide, "bool")
        return self.node("Pad", [x, self.ints(*grown), self.of(value, x.dtype)], shape, x.dtype)

    # Sums and products.

    def reduce(self, op: str, x: Value, dims: Sequence[int], *, keep: bool) -> Value:
        shape = tuple(
            1 if dim in dims else size for dim, size in enumerate(x.shape) if keep or dim not in dims
        )
        if not dims:
            return x
        return self.node(op, [x, self.ints(*dims)], shape, x.dtype, keepdims=int(keep))

    def matmul(self, a: Value, b: Value, *, transpose_b: bool = False, alpha: float = 1.0) -> Value:
        """Add ``alpha a @ b`` or ``alpha a @ b^T``, with broadcast batches; both have two dims or more."""
        rows, columns = a.shape[-2], b.shape[-2] if transpose_b else b.shape[-1]
        shape = (*broadcast_shapes(a.shape[:-2], b.shape[:-2]), rows, columns)
        if not transpose_b and alpha == 1.0:
            return self.node("MatMul", [a, b], shape, a.dtype)
        return self.node(
            "FusedMatMul", [a, b], shape, a.dtype, domain=MICROSOFT, transB=int(transpose_b), alpha=alpha
        )


def _check_single(op: str, attributes: Mapping[str, Any]) -> None:
    """Refuse float64 operations with an attribute that float32, ONNX's type for it, would round."""
    for key, value in attributes.items():
        if isinstance(value, float) and float(np.float32(value)) != value:
            raise CannotEmit(f"{op} in 64 bits takes {key} in 32, and {value} is none")


def _info(value: Value) -> Any:
    return helper.make_tensor_value_info(value.name, ONNX_DTYPES[value.dtype], value.shape)


def _inline(name: str, array: Array) -> TensorProto:
    return TensorProto(
        name=name,
        dims=array.shape,
        data_type=ONNX_DTYPES[dtype_name(array.dtype)],
        raw_data=np.asarray(array, order="C").tobytes(),
    )


def _external(name: str, array: Array) -> TensorProto:
    proto = TensorProto(
        name=name,
        dims=array.shape,
        data_type=ONNX_DTYPES[dtype_name(array.dtype)],
        data_location=TensorProto.EXTERNAL,
    )
    proto.external_data.add(key="location", value="weights")
    return proto
