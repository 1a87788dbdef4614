"""One way to say a thing: operators written in terms of those that rules know, results as they were.

Each entry of `_FORMS` is one operator's form: what it is in other words, or None where the words do not fit
(then it stays, whole). What it is made of may have a form in turn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from edgeflow.graph.ir import Array, ModelGraph, Operator, Symbol, TensorRef, TensorSpec, Value
from edgeflow.graph.views import Made

_Form = Callable[["Words"], bool]


class Words:
    """The operator that is put into other words, and the words so far."""

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
        """The value of a tensor, if it is known."""
        return self._weights.get(ref.name)

    @property
    def read(self) -> list[int]:
        """Which of the operator's outputs somebody reads."""
        return [index for index, name in enumerate(self.op.outputs) if name]

    def say(self, target: str, shape: Sequence[int], dtype: str, /, **arguments: Value) -> TensorRef:
        """Add an operator; the result has a name of its own."""
        name = f"{self.op.name}_{target.split('.')[1].strip('_')}{len(self.made)}"
        call = Operator(name=name, target=target, arguments=tuple(arguments.items()), outputs=(name,))
        self.made.append((call, TensorSpec(shape=tuple(shape), dtype=dtype)))
        return TensorRef(name)

    def end(self, target: str, /, **arguments: Value) -> bool:
        """Add the operator that makes the first output."""
        return self.end_of(0, target, **arguments)

    def end_of(self, output: int, target: str, /, **arguments: Value) -> bool:
        """Add the operator that makes one of the outputs."""
        name = self.op.outputs[output]
        call = Operator(name=name, target=target, arguments=tuple(arguments.items()), outputs=(name,))
        self.made.append((call, self._specs[name]))
        return True

    def slice(self, ref: TensorRef, dim: int, start: int, stop: int) -> TensorRef:
        spec = self.spec(ref)
        shape = (*spec.shape[:dim], stop - start, *spec.shape[dim + 1 :])
        return self.say(
            "aten.slice.Tensor", shape, spec.dtype, self=ref, dim=dim, start=start, end=stop, step=1
        )

    def reshape(self, ref: TensorRef, shape: Sequence[int]) -> TensorRef:
        return self.say("aten.reshape.default", shape, self.spec(ref).dtype, self=ref, shape=tuple(shape))


def canonicalise(graph: ModelGraph) -> ModelGraph:
    """Put every operator that has a form into it."""
    specs = dict(graph.specs)
    operators: list[Operator] = []
    waiting = list(reversed(graph.operators))
    while waiting:
        op = waiting.pop()
        form = _FORMS.get(op.target)
        words = Words(op, specs, graph.weights)
        if form is None or not words.read or not form(words):
            operators.append(op)
            continue
        specs.update({made.output: spec for made, spec in words.made})
        waiting.extend(made for made, _ in reversed(words.made))
    return replace(graph, operators=tuple(operators), specs=specs)


def _only_first(target: str, *keys: str, **more: Value) -> _Form:
    """An operator of several outputs, of which only the first is read, as one that makes no others."""

    def form(words: Words) -> bool:
        if words.read != [0]:
            return False
        return words.end(target, **{key: words.op.arg(key) for key in keys}, **more)

    return form


def _group_norm(words: Words) -> bool:
    op = words.op
    if words.read != [0]:
        return False
    return words.end(
        "aten.group_norm.default", input=op.arg("input"), num_groups=op.arg("group"), weight=op.arg("weight"),
        bias=op.arg("bias"), eps=op.arg("eps"), cudnn_enabled=False,
    )  # fmt: skip


def _fused_attention(words: Words) -> bool:
    op = words.op
    if words.read != [0] or op.arg("dropout_p"):
        return False
    return words.end(
        "aten.scaled_dot_product_attention.default", query=op.arg("query"), key=op.arg("key"),
        value=op.arg("value"), attn_mask=op.arg("attn_mask"), dropout_p=0.0, is_causal=op.arg("is_causal"),
        scale=op.arg("scale"), enable_gqa=False,
    )  # fmt: skip


def _extremum(values: str, indices: str) -> _Form:
    """``max(x, dim)``: the extremes and where they are, each for itself."""

    def form(words: Words) -> bool:
        x = words.tensor("self")
        if words.spec(x).dtype == "bool" or not words.spec(x).ndim:
            return False
        dim, keeps = words.dim(x), bool(words.op.arg("keepdim"))
        if 0 in words.read:
            words.end(values, self=x, dim=(dim,), keepdim=keeps)
        if 1 in words.read:
            words.end_of(1, indices, self=x, dim=dim, keepdim=keeps)
        return True

    return form


def _cast(words: Words) -> bool:
    """``x.type_as(y)`` reads nothing of ``y`` but its dtype."""
    return _copied(words, words.tensor("self"))


def _copied(words: Words, ref: TensorRef) -> bool:
    dtype = words.spec(words.op.output).dtype
    return words.end(
        "aten._to_copy.default", self=ref, dtype=Symbol("dtype", dtype), layout=None, device=None,
        pin_memory=None, non_blocking=False, memory_format=None,
    )  # fmt: skip


def _copy(key: str) -> _Form:
    """``copy(x, y)`` and ``fill(x, y)``: ``y`` in the shape and the dtype of ``x``."""

    def form(words: Words) -> bool:
        spec, source = words.spec(words.op.output), words.tensor(key)
        expanded = words.say(
            "aten.expand.default",
            spec.shape,
            words.spec(source).dtype,
            self=source,
            size=spec.shape,
            implicit=False,
        )
        return _copied(words, expanded)

    return form


def _filled(value: float | str) -> _Form:
    """``zeros_like`` and its like read nothing of their operand but its shape; a word is an argument."""

    def form(words: Words) -> bool:
        spec = words.spec(words.op.output)
        number = words.op.arg(value) if isinstance(value, str) else value
        if not isinstance(number, int | float) or isinstance(number, TensorRef):
            return False
        return words.end(
            "aten.full.default", size=spec.shape, fill_value=number, dtype=Symbol("dtype", spec.dtype),
            layout=None, device=None, pin_memory=None,
        )  # fmt: skip

    return form


def _tile(words: Words) -> bool:
    repeats = tuple(words.op.arg("dims"))
    ones = (1,) * (words.spec(words.tensor("self")).ndim - len(repeats))
    return words.end("aten.repeat.default", self=words.tensor("self"), repeats=(*ones, *repeats))


def _concat(words: Words) -> bool:
    return words.end("aten.cat.default", tensors=words.op.arg("tensors"), dim=words.op.arg("dim"))


def _hstack(words: Words) -> bool:
    ndims = {words.spec(ref).ndim for ref in words.op.arg("tensors")}
    if 0 in ndims:
        return False
    return words.end("aten.cat.default", tensors=words.op.arg("tensors"), dim=0 if ndims == {1} else 1)


def _slice_scatter(words: Words) -> bool:
    """A write into a slice: what is before it, what is written, what is after it."""
    x, source = words.tensor("self"), words.tensor("src")
    dim, size = words.dim(x), words.spec(x).shape[words.dim(x)]
    if words.op.arg("step") != 1:
        return False
    start = words.op.arg("start") or 0
    start = min(max(start + size if start < 0 else start, 0), size)
    return _written(words, x, source, dim, start)


def _select_scatter(words: Words) -> bool:
    x, source = words.tensor("self"), words.tensor("src")
    dim, shape = words.dim(x), words.spec(x).shape
    index = words.op.arg("index")
    widened = words.reshape(source, (*shape[:dim], 1, *shape[dim + 1 :]))
    return _written(words, x, widened, dim, index + shape[dim] if index < 0 else index)


def _written(words: Words, x: TensorRef, source: TensorRef, dim: int, start: int) -> bool:
    size, stop = words.spec(x).shape[dim], start + words.spec(source).shape[dim]
    if words.spec(source).dtype != words.spec(x).dtype:
        return False
    parts = [source]
    if start > 0:
        parts.insert(0, words.slice(x, dim, 0, start))
    if stop < size:
        parts.append(words.slice(x, dim, stop, size))
    return words.end("aten.cat.default", tensors=tuple(parts), dim=dim)


def _glu(words: Words) -> bool:
    x = words.tensor("self")
    dim, spec = words.dim(x), words.spec(x)
    half = spec.shape[dim] // 2
    value, gate = words.slice(x, dim, 0, half), words.slice(x, dim, half, 2 * half)
    opened = words.say("aten.sigmoid.default", words.spec(gate).shape, spec.dtype, self=gate)
    return words.end("aten.mul.Tensor", self=value, other=opened)


def _outer(words: Words) -> bool:
    x, y = words.tensor("self"), words.tensor("vec2")
    column = words.reshape(x, (*words.spec(x).shape, 1))
    return words.end("aten.mul.Tensor", self=column, other=y)


def _vectors(first: str, second: str, target: str = "aten.matmul.default") -> _Form:
    """Products of which an operand has one dim, as products of matrices."""

    def form(words: Words) -> bool:
        a, b = words.tensor(first), words.tensor(second)
        a_spec, b_spec = words.spec(a), words.spec(b)
        if a_spec.ndim > 1 and b_spec.ndim > 1:
            return False
        row = words.reshape(a, (1, *a_spec.shape)) if a_spec.ndim == 1 else a
        column = words.reshape(b, (*b_spec.shape, 1)) if b_spec.ndim == 1 else b
        left, right = words.spec(row).shape, words.spec(column).shape
        lead = left[:-2] if len(left) >= len(right) else right[:-2]
        shape = (*lead, left[-2], right[-1])
        product = words.say(target, shape, words.spec(words.op.output).dtype, self=row, other=column)
        return words.end("aten.reshape.default", self=product, shape=words.spec(words.op.output).shape)

    return form


def _inner(words: Words) -> bool:
    """``inner(a, b)``: all rows of ``a`` by all rows of ``b``; a linear layer where ``b`` is a matrix."""
    a, b = words.tensor("self"), words.tensor("other")
    if words.spec(b).ndim != 2 or words.spec(a).ndim < 1:
        return False
    return words.end("aten.linear.default", input=a, weight=b, bias=None)


def _tensordot(words: Words) -> bool:
    """Summed over pairs of dims: an einsum with a letter for each dim."""
    a, b = words.tensor("self"), words.tensor("other")
    a_ndim, b_ndim = words.spec(a).ndim, words.spec(b).ndim
    if a_ndim + b_ndim > 26:
        return False
    left = [chr(ord("a") + dim) for dim in range(a_ndim)]
    right = [chr(ord("a") + a_ndim + dim) for dim in range(b_ndim)]
    summed = set()
    for mine, other in zip(words.op.arg("dims_self"), words.op.arg("dims_other"), strict=True):
        if words.spec(a).shape[mine % a_ndim] != words.spec(b).shape[other % b_ndim]:
            return False
        right[other % b_ndim] = left[mine % a_ndim]
        summed.add(left[mine % a_ndim])
    kept = "".join(letter for letter in left + right if letter not in summed)
    equation = f"{''.join(left)},{''.join(right)}->{kept}"
    return words.end("aten.einsum.default", equation=equation, tensors=(a, b), path=None)


def _index(words: Words) -> bool:
    """``x[:, [3, 4, 5]]`` with constant indices for one dim that are consecutive: a slice."""
    given = [(dim, ref) for dim, ref in enumerate(words.op.arg("indices")) if ref is not None]
    if len(given) != 1:
        return False
    ((dim, ref),) = given
    return _consecutive(words, dim, ref)


def _index_select(words: Words) -> bool:
    x = words.tensor("self")
    return words.spec(x).ndim > 0 and _consecutive(words, words.dim(x), words.tensor("index"))


def _consecutive(words: Words, dim: int, ref: TensorRef) -> bool:
    places = words.constant(ref)
    if places is None or places.ndim != 1 or places.dtype.kind != "i":
        return False
    size = words.spec(words.tensor("self")).shape[dim]
    start = int(places[0]) % size
    if [int(place) % size for place in places] != list(range(start, start + len(places))):
        return False
    return words.end(
        "aten.slice.Tensor", self=words.tensor("self"), dim=dim, start=start, end=start + len(places), step=1
    )


_FORMS: Mapping[str, _Form] = {
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
    "aten.linear.default": lambda words: words.op.arg("bias") is None and _vectors("input", "weight")(words),
    "aten.inner.default": _inner,
    "aten.tensordot.default": _tensordot,
}
