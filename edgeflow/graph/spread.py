"""A pass that writes statistics over whole feature maps as sums that several devices can share.

GroupNorm, InstanceNorm and LayerNorm over whole maps, L2 norms and extrema over several dims, and adaptive
max pooling are single operators that need every row of their input: a device with some rows would have to
fetch all others. Written out, every device works on its own rows, and only statistics are exchanged.

Means and sums over rows are contractions: devices exchange one partial sum per group. Variance takes two
passes, the mean, then the mean of centred squares: ``E[x^2] - E[x]^2`` would save one exchange, but loses all
digits if the mean is large compared with the deviation. Columns are summed first, on their own, since torch
has its fastest kernel for that.

Cost if nothing is split: a few more passes over the map than a fused kernel, which is small next to a
convolution with hundreds of operations per element. In half precision the statistics would be rounded between
operators, so these norms stay whole.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edgeflow.graph.ir import Array, ModelGraph, Operator, TensorRef, TensorSpec, Value

_WIDE = ("float32", "float64")


def spread_statistics(graph: ModelGraph) -> ModelGraph:
    """Return the graph with every supported operator written out; see the module's docstring."""
    specs, weights = dict(graph.specs), dict(graph.weights)
    operators: list[Operator] = []
    for op in graph.operators:
        write = _WRITERS.get(op.target)
        written = None
        if write is not None and op.outputs[0] and not any(op.outputs[1:]):
            writer = _Writer(op, specs, weights, [])
            write(writer)
            written = writer.operators
        operators.extend(written or [op])
    return replace(graph, operators=tuple(operators), specs=specs, weights=weights)


@dataclass(frozen=True, slots=True)
class _Writer:
    """Collects the operators that replace ``op``; if there are none, ``op`` stays."""

    op: Operator
    specs: dict[str, TensorSpec]
    weights: dict[str, Array]
    operators: list[Operator]

    def argument(self, key: str) -> Any:
        return self.op.arg(key)

    def shape(self, ref: TensorRef) -> tuple[int, ...]:
        return self.specs[ref.name].shape

    def call(self, target: str, shape: tuple[int, ...], /, **arguments: Value) -> TensorRef:
        """Add one operator and return its result, which has the dtype of the replaced operator."""
        name = f"{self.op.name}_part{len(self.operators)}"
        self.specs[name] = TensorSpec(shape=shape, dtype=self.specs[self.op.outputs[0]].dtype)
        self.operators.append(
            Operator(name=name, target=target, arguments=tuple(arguments.items()), outputs=(name,))
        )
        return TensorRef(name)

    def finish(self) -> None:
        """Give the last added operator the name and the output of the replaced one."""
        last = self.operators.pop()
        self.operators.append(
            Operator(
                name=self.op.name, target=last.target, arguments=last.arguments, outputs=self.op.outputs[:1]
            )
        )

    def reshaped(self, ref: TensorRef, shape: tuple[int, ...]) -> TensorRef:
        """Return a tensor in another shape; a weight is reshaped now, an activation by an added view."""
        if ref.name not in self.weights:
            return self.call("aten.view.default", shape, self=ref, size=shape)
        name = f"{self.op.name}_{ref.name}"
        self.weights[name] = np.ascontiguousarray(self.weights[ref.name].reshape(shape))
        self.specs[name] = TensorSpec(shape=shape, dtype=self.specs[ref.name].dtype)
        return TensorRef(name)

    def mean(self, x: TensorRef, dims: tuple[int, ...]) -> TensorRef:
        """Return the mean over dims, kept with one element; ``x`` itself if they all have one already."""
        shape = self.shape(x)
        dims = tuple(dim for dim in dims if shape[dim] > 1)
        if not dims:
            return x
        kept = tuple(1 if dim in dims else size for dim, size in enumerate(shape))
        return self.call("aten.mean.dim", kept, self=x, dim=dims, keepdim=True, dtype=None)


# Norms


def _write_group_norm(w: _Writer) -> None:
    _write_norm(w, w.argument("input"), groups=w.argument("num_groups"), per="channel")


def _write_instance_norm(w: _Writer) -> None:
    if w.argument("use_input_stats"):
        _write_norm(w, w.argument("input"), groups=w.shape(w.argument("input"))[1], per="channel")


def _write_batch_norm(w: _Writer) -> None:
    """Write BatchNorm with batch statistics, for a batch of one only: they equal instance statistics."""
    shape = w.shape(w.argument("input"))
    if shape[0] == 1:
        _write_norm(w, w.argument("input"), groups=shape[1], per="channel")


def _write_layer_norm(w: _Writer) -> None:
    """Write LayerNorm over whole feature maps; over the features of a token there is nothing to share."""
    shape = w.shape(w.argument("input"))
    if len(shape) >= 4 and tuple(w.argument("normalized_shape")) == shape[1:]:
        _write_norm(w, w.argument("input"), groups=1, per="element")


def _write_norm(w: _Writer, x: TensorRef, *, groups: int, per: str) -> None:
    """Write ``(x - mean) / sqrt(var + eps) * weight + bias`` over ``x_NGK...``, K channels per group.

    Rows are dim 3 of that shape and are summed last. ``per`` says whether weight and bias have one number per
    ``channel`` or per ``element``. Nothing is written for half precision, or for inputs of fewer than two
    rows.
    """
    shape = w.shape(x)
    if w.specs[x.name].dtype not in _WIDE or len(shape) < 3 or shape[2] < 2:
        return
    per_group = shape[1] // groups
    x_NGK = w.reshaped(x, (shape[0], groups, per_group, *shape[2:]))
    grouped = w.shape(x_NGK)

    def moment(values: TensorRef) -> TensorRef:
        columns = tuple(range(4, len(grouped)))
        return w.mean(w.mean(w.mean(values, columns), (2,)), (3,))

    centred = w.call("aten.sub.Tensor", grouped, self=x_NGK, other=moment(x_NGK), alpha=1)
    variance = moment(w.call("aten.mul.Tensor", grouped, self=centred, other=centred))
    small = w.shape(variance)
    padded = w.call("aten.add.Scalar", small, self=variance, other=w.argument("eps"), alpha=1)
    scale = w.call("aten.rsqrt.default", small, self=padded)
    weight, bias = (w.op.arg(key) for key in ("weight", "bias"))
    full = grouped[1:] if per == "element" else (groups, per_group, *[1] * (len(grouped) - 3))
    if weight is not None and per == "channel":  # one number per channel: multiply while it is small
        scale = w.call("aten.mul.Tensor", (small[0], *full), self=scale, other=w.reshaped(weight, (1, *full)))
    y = w.call("aten.mul.Tensor", grouped, self=centred, other=scale)
    if weight is not None and per == "element":
        y = w.call("aten.mul.Tensor", grouped, self=y, other=w.reshaped(weight, (1, *full)))
    if bias is not None:
        y = w.call("aten.add.Tensor", grouped, self=y, other=w.reshaped(bias, (1, *full)), alpha=1)
    w.call("aten.view.default", shape, self=y, size=shape)
    w.finish()


# Other statistics


def _reduced(w: _Writer) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the input's shape and the reduced dims of more than one element, in order."""
    shape = w.shape(w.argument("self"))
    listed = w.argument("dim")
    dims = range(len(shape)) if listed is None or listed == () else sorted(d % len(shape) for d in listed)
    return shape, tuple(dim for dim in dims if shape[dim] > 1)


def _write_vector_norm(w: _Writer) -> None:
    """Write an L2 norm over several dims as the root of a sum of squares."""
    x = w.argument("self")
    shape, dims = _reduced(w)
    dtype = w.specs[x.name].dtype
    if w.argument("ord") != 2 or len(dims) < 2 or dtype not in _WIDE or w.argument("dtype") is not None:
        return
    square = w.call("aten.mul.Tensor", shape, self=x, other=x)
    made = w.specs[w.op.outputs[0]].shape
    total = w.call(
        "aten.sum.dim_IntList",
        made,
        self=square,
        dim=w.argument("dim"),
        keepdim=w.argument("keepdim"),
        dtype=None,
    )
    w.call("aten.sqrt.default", made, self=total)
    w.finish()


def _write_extremum(w: _Writer) -> None:
    """Write an extremum over several dims as one over all but the first, then one over the first."""
    shape, dims = _reduced(w)
    if len(dims) < 2:
        return
    kept = tuple(1 if dim in dims[1:] else size for dim, size in enumerate(shape))
    inner = w.call(w.op.target, kept, self=w.argument("self"), dim=dims[1:], keepdim=True)
    made = w.specs[w.op.outputs[0]].shape
    w.call(w.op.target, made, self=inner, dim=w.argument("dim"), keepdim=w.argument("keepdim"))
    w.finish()


def _write_global_average(w: _Writer) -> None:
    """Write an average pool whose only window covers the whole map as a global average pool."""
    shape, made = w.shape(w.argument("self")), w.specs[w.op.outputs[0]].shape
    spatial = int(w.op.target[len("aten.avg_pool")])
    kernel = w.argument("kernel_size")
    covers = all(kernel[dim % len(kernel)] >= size for dim, size in enumerate(shape[len(shape) - spatial :]))
    is_mean = not any(w.argument("padding")) and dict(w.op.arguments).get("divisor_override") is None
    if covers and is_mean and set(made[len(shape) - spatial :]) == {1}:
        w.call(
            f"aten.adaptive_avg_pool{spatial}d.default",
            made,
            self=w.argument("self"),
            output_size=(1,) * spatial,
        )
        w.finish()


def _write_adaptive_max(w: _Writer) -> None:
    """Write adaptive max pooling one dim at a time, columns first, as maxima of slices."""
    x = w.argument("self")
    shape = w.shape(x)
    made = w.specs[w.op.outputs[0]].shape
    spatial = len(w.argument("output_size"))
    for dim in reversed(range(len(shape) - spatial, len(shape))):
        x = _adaptive_max_along(w, x, dim, made[dim])
    if w.operators:
        w.finish()


def _adaptive_max_along(w: _Writer, x: TensorRef, dim: int, made: int) -> TensorRef:
    shape = w.shape(x)
    size = shape[dim]
    if size == made:
        return x
    parts = []
    for index in range(made):
        start, stop = index * size // made, -(-(index + 1) * size // made)
        part = x
        if made > 1:
            cut = (*shape[:dim], stop - start, *shape[dim + 1 :])
            part = w.call("aten.slice.Tensor", cut, self=x, dim=dim, start=start, end=stop, step=1)
        one = (*shape[:dim], 1, *shape[dim + 1 :])
        parts.append(w.call("aten.amax.default", one, self=part, dim=(dim,), keepdim=True))
    if made == 1:
        return parts[0]
    joined = (*shape[:dim], made, *shape[dim + 1 :])
    return w.call("aten.cat.default", joined, tensors=tuple(parts), dim=dim)


_WRITERS: Mapping[str, Callable[[_Writer], None]] = {
    "aten.group_norm.default": _write_group_norm,
    "aten.instance_norm.default": _write_instance_norm,
    "aten._native_batch_norm_legit.no_stats": _write_batch_norm,
    "aten.layer_norm.default": _write_layer_norm,
    "aten.linalg_vector_norm.default": _write_vector_norm,
    "aten.amax.default": _write_extremum,
    "aten.amin.default": _write_extremum,
    **{f"aten.avg_pool{n}d.default": _write_global_average for n in (1, 2, 3)},
    **{f"aten.adaptive_max_pool{n}d.default": _write_adaptive_max for n in (1, 2, 3)},
}
