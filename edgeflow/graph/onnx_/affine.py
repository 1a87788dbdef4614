"""Constants that exporters add to, or multiply with, what a layer makes go back into the layer.

A bias is often an addition of its own, and a BatchNorm a multiplication and an addition. Inside the layer
they cost nothing; as operators of their own they cost a kernel each, for every request.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from edgeflow.graph.ir import NUMPY_DTYPES, Array, ModelGraph, Operator, TensorRef, TensorSpec, Value

#: Target -> the dim of the output that a bias lies along; convolutions have it behind the batch.
_LAYERS = {
    "aten.linear.default": -1,
    "aten.conv1d.default": 1,
    "aten.conv2d.default": 1,
    "aten.conv3d.default": 1,
}
_SHIFTS = {"aten.add.Tensor": 1.0, "aten.sub.Tensor": -1.0}
_SCALES = {"aten.mul.Tensor": 1, "aten.div.Tensor": -1}
#: Weights of fewer digits are not multiplied: they would be rounded once more.
_SCALABLE = ("float32", "float64")


def fold_affine(graph: ModelGraph) -> ModelGraph:
    """Return the graph with ``layer(x) * scale + shift`` written as one layer.

    Scale and shift are weights, one number or one a channel, and nobody reads what lies between.
    """
    folding = _Folding(graph)
    for op in graph.operators:
        folding.add(op)
    return folding.result()


class _Folding:
    """The graph as it is rewritten, operator by operator."""

    def __init__(self, graph: ModelGraph) -> None:
        self.graph = graph
        self.specs, self.weights = dict(graph.specs), dict(graph.weights)
        self.operators: list[Operator] = []
        self.position: dict[str, int] = {}

    def add(self, op: Operator) -> None:
        found = next(self._operands(op), None)
        if found is None:
            self.position |= {name: len(self.operators) for name in op.outputs}
            self.operators.append(op)
            return
        made, constant = found
        index = self.position[made]
        layer = self.operators[index]
        self.operators[index] = Operator(
            name=layer.name,
            target=layer.target,
            arguments=self._folded(layer, op, self.graph.weights[constant]),
            outputs=op.outputs,
        )
        self.position[op.output] = index
        del self.specs[made]

    def result(self) -> ModelGraph:
        read = {name for op in self.operators for name in op.inputs} | set(self.graph.outputs)
        unread = self.weights.keys() - read
        return replace(
            self.graph,
            operators=tuple(self.operators),
            specs={name: spec for name, spec in self.specs.items() if name not in unread},
            weights={name: value for name, value in self.weights.items() if name not in unread},
        )

    def _operands(self, op: Operator) -> Iterator[tuple[str, str]]:
        """Yield (what a layer makes, a constant that goes into that layer) if the operator combines these."""
        if (
            op.target not in _SHIFTS | _SCALES
            or len(op.inputs) != 2
            or dict(op.arguments).get("alpha", 1) != 1
        ):
            return
        is_symmetric = op.target in ("aten.add.Tensor", "aten.mul.Tensor")
        for made, constant in (op.inputs, op.inputs[::-1]) if is_symmetric else (op.inputs,):
            if made in self.position and constant in self.graph.weights:
                layer = self.operators[self.position[made]]
                is_alone = len(self.graph.consumers[made]) == 1 and made not in self.graph.outputs
                if is_alone and self._takes(layer, op.target in _SCALES) and self._fits(layer, constant):
                    yield made, constant

    def _takes(self, layer: Operator, is_scale: bool) -> bool:
        """Whether a layer's weights are its own to change."""
        if layer.target not in _LAYERS:
            return False
        kernel, bias = layer.arg("weight").name, layer.arg("bias")
        if kernel not in self.weights or (bias is not None and bias.name not in self.weights):
            return False
        is_own = len(self.graph.consumers.get(kernel, ())) <= 1 and self.specs[kernel].dtype in _SCALABLE
        return is_own or not is_scale

    def _fits(self, layer: Operator, constant: str) -> bool:
        """Whether a constant is one number, or one for each channel of what a layer makes."""
        output, spec = self.specs[layer.output], self.specs[constant]
        if spec.ndim > output.ndim or spec.dtype != output.dtype:
            return False
        channels = [1] * output.ndim
        channels[_LAYERS[layer.target]] = output.shape[_LAYERS[layer.target]]
        shape = (1,) * (output.ndim - spec.ndim) + spec.shape
        return shape in (tuple(channels), (1,) * output.ndim)

    def _folded(self, layer: Operator, op: Operator, constant: Array) -> tuple[tuple[str, Value], ...]:
        """Return the layer's arguments with the constant in its weight or its bias."""
        kernel, bias = layer.arg("weight"), layer.arg("bias")
        value = np.broadcast_to(constant.astype(np.float64).reshape(-1), self.specs[kernel.name].shape[:1])
        old = np.zeros(value.shape) if bias is None else self.weights[bias.name].astype(np.float64)
        changes: dict[str, Value] = {}
        if op.target in _SHIFTS:
            changes["bias"] = self._store(f"{op.name}_bias", old + _SHIFTS[op.target] * value, kernel.name)
        else:
            scale = value ** _SCALES[op.target]
            matrix = self.weights[kernel.name].astype(np.float64)
            matrix = matrix * scale.reshape(-1, *[1] * (matrix.ndim - 1))
            changes["weight"] = self._store(f"{op.name}_weight", matrix, kernel.name)
            if bias is not None:
                changes["bias"] = self._store(f"{op.name}_bias", old * scale, kernel.name)
        return tuple((key, changes.get(key, value)) for key, value in layer.arguments)

    def _store(self, name: str, value: Array, like: str) -> TensorRef:
        dtype = self.specs[like].dtype
        self.weights[name] = np.ascontiguousarray(value.astype(NUMPY_DTYPES[dtype]))
        self.specs[name] = TensorSpec(shape=value.shape, dtype=dtype)
        return TensorRef(name)
