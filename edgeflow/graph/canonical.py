"""Rewrite operators into equivalent ones that sharding rules cover.

Each entry of `_WRITERS` rewrites one operator, or returns False if its rewrite does not apply; then the
operator stays. Operators that a rewrite adds are rewritten in turn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from edgeflow.graph.ir import Array, ModelGraph, Operator, Symbol, TensorRef, TensorSpec, Value
from edgeflow.graph.views import Made

_Write = Callable[["Writer"], bool]


class Writer:
    """The operator to rewrite, and the operators that replace it so far."""

    def __init__(self, op: Operator, specs: Mapping[str, TensorSpec], weights: Mapping[str, Array]) -> None:
        self.op = op
        self.made: list[Made] = []
        self._specs = specs
        self._weights = weights

    def tensor(self, key: str) -> TensorRef:
        value = self.op.arg(key)
        assert isinstance(value, TensorRef)
        return value

    def spec(self, ref: TensorRef | str) -> TensorSpec:
        name = ref.name if isinstance(ref, TensorRef) else ref
        return next((spec for op, spec in self.made if op.output == name), None) or self._specs[name]

    def dim(self, ref: TensorRef, key: str = "dim") -> int:
        return int(self.op.arg(key)) % max(1, self.spec(ref).ndim)

    def constant(self, ref: TensorRef) -> Array | None:
        """Return the value of a weight; None for other tensors."""
        return self._weights.get(ref.name)

    @property
    def read(self) -> list[int]:
        """Indices of the operator's outputs that are read."""
        return [index for index, name in enumerate(self.op.outputs) if name]

    def call(self, target: str, shape: Sequence[int], dtype: str, /, **arguments: Value) -> TensorRef:
        """Add an operator with a new name and return its result."""
        name = f"{self.op.name}_{target.split('.')[1].strip('_')}{len(self.made)}"
        call = Operator(name=name, target=target, arguments=tuple(arguments.items()), outputs=(name,))
        self.made.append((call, TensorSpec(shape=tuple(shape), dtype=dtype)))
        return TensorRef(name)

    def finish(self, target: str, /, **arguments: Value) -> bool:
        """Add the operator that makes the first output; return True."""
        return self.finish_output(0, target, **arguments)

    def finish_output(self, output: int, target: str, /, **arguments: Value) -> bool:
        """Add the operator that makes the output at an index; return True."""
        name = self.op.outputs[output]
        call = Operator(name=name, target=target, arguments=tuple(arguments.items()), outputs=(name,))
        self.made.append((call, self._specs[name]))
        return True

    def slice(self, ref: TensorRef, dim: int, start: int, stop: int) -> TensorRef:
        spec = self.spec(ref)
        shape = (*spec.shape[:dim], stop - start, *spec.shape[dim + 1 :])
        return self.call(
            "aten.slice.Tensor", shape, spec.dtype, self=ref, dim=dim, start=start, end=stop, step=1
        )

    def reshape(self, ref: TensorRef, shape: Sequence[int]) -> TensorRef:
        return self.call("aten.reshape.default", shape, self.spec(ref).dtype, self=ref, shape=tuple(shape))


def canonicalise(graph: ModelGraph) -> ModelGraph:
    """Return the graph with every operator of `_WRITERS` rewritten."""
    specs = dict(graph.specs)
    operators: list[Operator] = []
    waiting = list(reversed(graph.operators))
    while waiting:
        op = waiting.pop()
        write = _WRITERS.get(op.target)
        w = Writer(op, specs, graph.weights)
        if write is None or not w.read or not write(w):
            operators.append(op)
            continue
        specs.update({made.output: spec for made, spec in w.made})
        waiting.extend(made for made, _ in reversed(w.made))
    return replace(graph, operators=tuple(operators), specs=specs)


def _only_first(target: str, *keys: str, **more: Value) -> _Write:
    """Return a function that replaces an operator by ``target``, if only its first output is read.

    Args:
        target: The new operator, which makes only that output.
        keys: Names of the arguments to keep.
        more: Further arguments.
    """

    def write(w: Writer) -> bool:
        if w.read != [0]:
            return False
        return w.finish(target, **{key: w.op.arg(key) for key in keys}, **more)

    return write


def _group_norm(w: Writer) -> bool:
    op = w.op
    if w.read != [0]:
        return False
    return w.finish(
        "aten.group_norm.default", input=op.arg("input"), num_groups=op.arg("group"), weight=op.arg("weight"),
        bias=op.arg("bias"), eps=op.arg("eps"), cudnn_enabled=False,
    )  # fmt: skip


def _fused_attention(w: Writer) -> bool:
    op = w.op
    if w.read != [0] or op.arg("dropout_p"):
        return False
    return w.finish(
        "aten.scaled_dot_product_attention.default", query=op.arg("query"), key=op.arg("key"),
        value=op.arg("value"), attn_mask=op.arg("attn_mask"), dropout_p=0.0, is_causal=op.arg("is_causal"),
        scale=op.arg("scale"), enable_gqa=False,
    )  # fmt: skip


def _extremum(values: str, indices: str) -> _Write:
    """Return a function that splits ``max(x, dim)`` or ``min`` into operators for values and for indices."""

    def write(w: Writer) -> bool:
        x = w.tensor("self")
        if w.spec(x).dtype == "bool" or not w.spec(x).ndim:
            return False
        dim, keeps = w.dim(x), bool(w.op.arg("keepdim"))
        if 0 in w.read:
            w.finish(values, self=x, dim=(dim,), keepdim=keeps)
        if 1 in w.read:
            w.finish_output(1, indices, self=x, dim=dim, keepdim=keeps)
        return True

    return write


def _cast(w: Writer) -> bool:
    """Rewrite ``x.type_as(y)`` as a cast: only the dtype of ``y`` matters."""
    return _copied(w, w.tensor("self"))


def _copied(w: Writer, ref: TensorRef) -> bool:
    dtype = w.spec(w.op.output).dtype
    return w.finish(
        "aten._to_copy.default", self=ref, dtype=Symbol("dtype", dtype), layout=None, device=None,
        pin_memory=None, non_blocking=False, memory_format=None,
    )  # fmt: skip


def _copy(key: str) -> _Write:
    """Return a function that writes ``copy(x, y)`` or ``fill(x, y)`` as ``y`` expanded and cast."""

    def write(w: Writer) -> bool:
        spec, source = w.spec(w.op.output), w.tensor(key)
        expanded = w.call(
            "aten.expand.default",
            spec.shape,
            w.spec(source).dtype,
            self=source,
            size=spec.shape,
            implicit=False,
        )
        return _copied(w, expanded)

    return write


def _filled(value: float | str) -> _Write:
    """Return a function that rewrites ``zeros_like`` and similar operators as ``full``.

    Args:
        value: The number, or the name of the argument that holds it.
    """

    def write(w: Writer) -> bool:
        spec = w.spec(w.op.output)
        number = w.op.arg(value) if isinstance(value, str) else value
        if not isinstance(number, int | float) or isinstance(number, TensorRef):
            return False
        return w.finish(
            "aten.full.default", size=spec.shape, fill_value=number, dtype=Symbol("dtype", spec.dtype),
            layout=None, device=None, pin_memory=None,
        )  # fmt: skip

    return write


def _tile(w: Writer) -> bool:
    repeats = tuple(w.op.arg("dims"))
    ones = (1,) * (w.spec(w.tensor("self")).ndim - len(repeats))
    return w.finish("aten.repeat.default", self=w.tensor("self"), repeats=(*ones, *repeats))


def _concat(w: Writer) -> bool:
    return w.finish("aten.cat.default", tensors=w.op.arg("tensors"), dim=w.op.arg("dim"))


def _hstack(w: Writer) -> bool:
    ndims = {w.spec(ref).ndim for ref in w.op.arg("tensors")}
    if 0 in ndims:
        return False
    return w.finish("aten.cat.default", tensors=w.op.arg("tensors"), dim=0 if ndims == {1} else 1)


def _slice_scatter(w: Writer) -> bool:
    """Rewrite a write into a slice as a concatenation: the part before, the source, the part after."""
    x, source = w.tensor("self"), w.tensor("src")
    dim, size = w.dim(x), w.spec(x).shape[w.dim(x)]
    if w.op.arg("step") != 1:
        return False
    start = w.op.arg("start") or 0
    start = min(max(start + size if start < 0 else start, 0), size)
    return _written(w, x, source, dim, start)


def _select_scatter(w: Writer) -> bool:
    x, source = w.tensor("self"), w.tensor("src")
    dim, shape = w.dim(x), w.spec(x).shape
    index = w.op.arg("index")
    widened = w.reshape(source, (*shape[:dim], 1, *shape[dim + 1 :]))
    return _written(w, x, widened, dim, index + shape[dim] if index < 0 else index)


def _written(w: Writer, x: TensorRef, source: TensorRef, dim: int, start: int) -> bool:
    size, stop = w.spec(x).shape[dim], start + w.spec(source).shape[dim]
    if w.spec(source).dtype != w.spec(x).dtype:
        return False
    parts = [source]
    if start > 0:
        parts.insert(0, w.slice(x, dim, 0, start))
    if stop < size:
        parts.append(w.slice(x, dim, stop, size))
    return w.finish("aten.cat.default", tensors=tuple(parts), dim=dim)


def _glu(w: Writer) -> bool:
    x = w.tensor("self")
    dim, spec = w.dim(x), w.spec(x)
    half = spec.shape[dim] // 2
    value, gate = w.slice(x, dim, 0, half), w.slice(x, dim, half, 2 * half)
    opened = w.call("aten.sigmoid.default", w.spec(gate).shape, spec.dtype, self=gate)
    return w.finish("aten.mul.Tensor", self=value, other=opened)


def _outer(w: Writer) -> bool:
    x, y = w.tensor("self"), w.tensor("vec2")
    column = w.reshape(x, (*w.spec(x).shape, 1))
    return w.finish("aten.mul.Tensor", self=column, other=y)


def _vectors(first: str, second: str, target: str = "aten.matmul.default") -> _Write:
    """Return a function that rewrites products with 1-d operands as matrix products."""

    def write(w: Writer) -> bool:
        a, b = w.tensor(first), w.tensor(second)
        a_spec, b_spec = w.spec(a), w.spec(b)
        if a_spec.ndim > 1 and b_spec.ndim > 1:
            return False
        row = w.reshape(a, (1, *a_spec.shape)) if a_spec.ndim == 1 else a
        column = w.reshape(b, (*b_spec.shape, 1)) if b_spec.ndim == 1 else b
        left, right = w.spec(row).shape, w.spec(column).shape
        lead = left[:-2] if len(left) >= len(right) else right[:-2]
        shape = (*lead, left[-2], right[-1])
        product = w.call(target, shape, w.spec(w.op.output).dtype, self=row, other=column)
        return w.finish("aten.reshape.default", self=product, shape=w.spec(w.op.output).shape)

    return write


def _inner(w: Writer) -> bool:
    """Rewrite ``inner(a, b)`` as a linear layer, if ``b`` is a matrix."""
    a, b = w.tensor("self"), w.tensor("other")
    if w.spec(b).ndim != 2 or w.spec(a).ndim < 1:
        return False
    return w.finish("aten.linear.default", input=a, weight=b, bias=None)


def _tensordot(w: Writer) -> bool:
    """Rewrite a tensordot as an einsum with one letter per dim."""
    a, b = w.tensor("self"), w.tensor("other")
    a_ndim, b_ndim = w.spec(a).ndim, w.spec(b).ndim
    if a_ndim + b_ndim > 26:
        return False
    left = [chr(ord("a") + dim) for dim in range(a_ndim)]
    right = [chr(ord("a") + a_ndim + dim) for dim in range(b_ndim)]
    summed = set()
    for mine, other in zip(w.op.arg("dims_self"), w.op.arg("dims_other"), strict=True):
        if w.spec(a).shape[mine % a_ndim] != w.spec(b).shape[other % b_ndim]:
            return False
        right[other % b_ndim] = left[mine % a_ndim]
        summed.add(left[mine % a_ndim])
    kept = "".join(letter for letter in left + right if letter not in summed)
    equation = f"{''.join(left)},{''.join(right)}->{kept}"
    return w.finish("aten.einsum.default", equation=equation, tensors=(a, b), path=None)


def _index(w: Writer) -> bool:
    """Rewrite indexing with constant consecutive indices along one dim, ``x[:, [3, 4, 5]]``, as a slice."""
    given = [(dim, ref) for dim, ref in enumerate(w.op.arg("indices")) if ref is not None]
    if len(given) != 1:
        return False
    ((dim, ref),) = given
    return _consecutive(w, dim, ref)


def _index_select(w: Writer) -> bool:
    x = w.tensor("self")
    return w.spec(x).ndim > 0 and _consecutive(w, w.dim(x), w.tensor("index"))


def _consecutive(w: Writer, dim: int, ref: TensorRef) -> bool:
    places = w.constant(ref)
    if places is None or places.ndim != 1 or places.dtype.kind != "i":
        return False
    size = w.spec(w.tensor("self")).shape[dim]
    start = int(places[0]) % size
    if [int(place) % size for place in places] != list(range(start, start + len(places))):
        return False
    return w.finish(
        "aten.slice.Tensor", self=w.tensor("self"), dim=dim, start=start, end=start + len(places), step=1
    )


_WRITERS: Mapping[str, _Write] = {
    "aten.native_layer_norm.default": _only_first(
        "aten.layer_norm.default", "input", "normalized_shape", "weight", "bias", "eps", cudnn_enable=False
    ),
    "aten._fused_rms_norm.default": _only_first(
        "aten.rms_norm.default", "input", "normalized_shape", "weight", "eps"
    ),
    "aten.native_group_norm.default": _group_norm,
    "aten._scaled_dot_product_flash_attention_for_cpu.default": _fused_attention,
    "aten.max.dim": _extremum("aten.amax.default", "aten.argmax.default"),
    "aten.min.dim": _extremum("aten.amin.default", "aten.argmin.default"),
    "aten.type_as.default": _cast,
    "aten.copy.default": _copy("src"),
    "aten.fill.Tensor": _copy("value"),
    "aten.fill.Scalar": _filled("value"),
    "aten.zeros_like.default": _filled(0),
    "aten.ones_like.default": _filled(1),
    "aten.full_like.default": _filled("fill_value"),
    "aten.new_zeros.default": _filled(0),
    "aten.new_ones.default": _filled(1),
    "aten.new_full.default": _filled("fill_value"),
    "aten.tile.default": _tile,
    "aten.concat.default": _concat,
    "aten.concatenate.default": _concat,
    "aten.hstack.default": _hstack,
    "aten.slice_scatter.default": _slice_scatter,
    "aten.select_scatter.default": _select_scatter,
    "aten.index.Tensor": _index,
    "aten.index_select.default": _index_select,
    "aten.glu.default": _glu,
    "aten.outer.default": _outer,
    "aten.matmul.default": _vectors("self", "other"),
    "aten.mv.default": _vectors("self", "vec"),
    "aten.dot.default": _vectors("self", "tensor"),
    "aten.linear.default": lambda w: w.op.arg("bias") is None and _vectors("input", "weight")(w),
    "aten.inner.default": _inner,
    "aten.tensordot.default": _tensordot,
}
