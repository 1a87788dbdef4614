"""A pass that folds constant additions and multiplications into the layer before them.

Exporters often write a bias as a separate addition, and a BatchNorm as a multiplication and an addition. As
separate operators they cost one kernel each per request; inside the layer they cost nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from edgeflow.graph.ir import NUMPY_DTYPES, Array, ModelGraph, Operator, TensorRef, TensorSpec, Value

#: Target -> the channel dim of the output, along which the bias lies.
_LAYERS = {
    "aten.linear.default": -1,
    "aten.conv1d.default": 1,
    "aten.conv2d.default": 1,
    "aten.conv3d.default": 1,
}
_SHIFTS = {"aten.add.Tensor": 1.0, "aten.sub.Tensor": -1.0}
_SCALES = {"aten.mul.Tensor": 1, "aten.div.Tensor": -1}
#: Weights of other dtypes are not scaled: they would be rounded a second time.
_SCALABLE = ("float32", "float64")


def fold_affine(graph: ModelGraph) -> ModelGraph:
    """Return the graph with ``layer(x) * scale + shift`` folded into one layer.

    Scale and shift must be weights with one number or one number per channel, and the results in between must
    have no other reader.
    """
    folding = _Folding(graph)
    for op in graph.operators:
        folding.add(op)
    return folding.result()


class _Folding:
    """The rewritten graph so far; operators are added one by one."""

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
        """Yield (a layer's result, a constant to fold into that layer) if ``op`` combines the two."""
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
        """Whether the layer's weights may change: they are constants and, for a scale, not shared."""
        if layer.target not in _LAYERS:
            return False
        kernel, bias = layer.arg("weight").name, layer.arg("bias")
        if kernel not in self.weights or (bias is not None and bias.name not in self.weights):
            return False
        is_own = len(self.graph.consumers.get(kernel, ())) <= 1 and self.specs[kernel].dtype in _SCALABLE
        return is_own or not is_scale

    def _fits(self, layer: Operator, constant: str) -> bool:
        """Whether a constant has one number, or one number per channel of the layer's output."""
        output, spec = self.specs[layer.output], self.specs[constant]
        if spec.ndim > output.ndim or spec.dtype != output.dtype:
            return False
        channels = [1] * output.ndim
        channels[_LAYERS[layer.target]] = output.shape[_LAYERS[layer.target]]
        shape = (1,) * (output.ndim - spec.ndim) + spec.shape
        return shape in (tuple(channels), (1,) * output.ndim)

    def _folded(self, layer: Operator, op: Operator, constant: Array) -> tuple[tuple[str, Value], ...]:
        """Return the layer's arguments with the constant folded into its weight or its bias."""
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
