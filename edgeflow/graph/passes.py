"""Passes that simplify a captured graph without changing its results; each is a function graph -> graph.

This module does not import torch: the caller passes the function that evaluates operators on constants.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from edgeflow.errors import UnsupportedOperatorError
from edgeflow.graph.canonical import canonicalise
from edgeflow.graph.ir import NUMPY_DTYPES, Array, ModelGraph, Operator, TensorRef, TensorSpec, Value
from edgeflow.graph.movement import join_movements
from edgeflow.graph.spread import spread_statistics
from edgeflow.graph.untangle import split_projections, untangle_views

Evaluate = Callable[[Operator, Mapping[str, Array]], list[Array]]

#: A constant larger than its operands is stored only up to this size.
_MAX_CONSTANT_BYTES = 64 * 2**20

_IDENTITIES = {
    "aten.clone.default",
    "aten.alias.default",
    "aten.detach.default",
    "aten.contiguous.default",
    "aten.dropout.default",
    "aten.native_dropout.default",
    "aten.feature_dropout.default",
    "aten.alpha_dropout.default",
    "aten.feature_alpha_dropout.default",
    "aten.lift_fresh_copy.default",
    "aten.lift.default",
    "aten.detach_.default",
    "aten.positive.default",
}
#: These return their input if shape and dtype are the same before and after.
_IDENTITIES_IF_SAME = {
    "aten._to_copy.default",
    "aten.to.dtype",
    "aten.to.dtype_layout",
    "aten.to.device",
    "aten.type_as.default",
    "aten.view.default",
    "aten.reshape.default",
    "aten._unsafe_view.default",
    "aten.expand.default",
    "aten.squeeze.dims",
    "aten.slice.Tensor",
}
_RANDOM = (
    "aten.rand", "aten.bernoulli", "aten.multinomial", "aten.normal", "aten.poisson", "aten.uniform",
    "aten.exponential", "aten.log_normal", "aten.cauchy", "aten.geometric", "aten.binomial",
)  # fmt: skip
_BATCH_NORMS = {
    "aten._native_batch_norm_legit_no_training.default",
    "aten.batch_norm.default",
    "aten.cudnn_batch_norm.default",
}
#: Pools that also return indices -> the same pool without indices.
_WITHOUT_INDICES = {
    f"aten.max_pool{n}d_with_indices.default": f"aten.max_pool{n}d.default" for n in (1, 2, 3)
}
_CONVOLUTIONS = {"aten.conv1d.default", "aten.conv2d.default", "aten.conv3d.default"}


def simplify(graph: ModelGraph, *, evaluate: Evaluate) -> ModelGraph:
    """Run every pass, in an order in which earlier ones enable later ones."""
    refuse_random(graph)
    graph = drop_empty(drop_identities(graph))
    graph = canonicalise(normalise(graph))
    graph = canonicalise(fold_constants(graph, evaluate=evaluate))
    graph = fold_batch_norm(graph)
    graph = split_projections(drop_dead(untangle_views(graph)))
    graph = drop_dead(graph)
    graph = spread_statistics(graph)
    graph = join_movements(graph)
    return copy_constant_outputs(graph)


def copy_constant_outputs(graph: ModelGraph) -> ModelGraph:
    """Add an operator for every output that is a weight, so that some device makes it."""
    specs = dict(graph.specs)
    operators = list(graph.operators)
    outputs = []
    for name in graph.outputs:
        made = f"{name}_answer"
        if name in graph.weights and made not in specs:
            specs[made] = specs[name]
            arguments = (("self", TensorRef(name)), ("memory_format", None))
            operators.append(
                Operator(name=made, target="aten.clone.default", arguments=arguments, outputs=(made,))
            )
        outputs.append(made if name in graph.weights else name)
    return replace(graph, operators=tuple(operators), specs=specs, outputs=tuple(outputs))


def refuse_random(graph: ModelGraph) -> None:
    """Raise `UnsupportedOperatorError` if the graph draws random numbers: its runs could not be compared."""
    for op in graph.operators:
        if _is_random(op):
            raise UnsupportedOperatorError(
                f"{op.name} ({op.target}) draws random numbers; two runs would not agree", operator=op.name
            )


def _is_random(op: Operator) -> bool:
    """Whether an operator draws random numbers; dropout and rrelu do so only in training mode."""
    arguments = dict(op.arguments)
    if "dropout" in op.target:
        return arguments["train"] is not False and arguments["p"] != 0
    if op.target.startswith("aten.rrelu."):
        return bool(arguments["training"])
    return op.target.startswith(_RANDOM) or bool(arguments.get("dropout_p"))


def rename(op: Operator, names: Mapping[str, str]) -> Operator:
    """Return ``op`` reading ``names[x]`` wherever it read ``x``."""

    def swap(value: Value) -> Value:
        if isinstance(value, TensorRef):
            return TensorRef(names.get(value.name, value.name))
        if isinstance(value, tuple):
            return tuple(swap(item) for item in value)  # type: ignore[misc]
        return value

    if not any(name in names for name in op.inputs):
        return op
    return Operator(
        name=op.name,
        target=op.target,
        arguments=tuple((key, swap(value)) for key, value in op.arguments),
        outputs=op.outputs,
    )


def drop_identities(graph: ModelGraph) -> ModelGraph:
    """Remove operators that return their input: clones, dropout in evaluation, casts to the same dtype."""
    names: dict[str, str] = {}
    kept = []
    for op in graph.operators:
        op = rename(op, names)
        if _is_identity(graph, op):
            names[op.outputs[0]] = op.inputs[0]
        else:
            kept.append(op)
    outputs = tuple(names.get(name, name) for name in graph.outputs)
    return replace(graph, operators=tuple(kept), outputs=outputs)


def _is_identity(graph: ModelGraph, op: Operator) -> bool:
    if op.target in _IDENTITIES:
        return not any(op.outputs[1:])
    return op.target in _IDENTITIES_IF_SAME and graph.specs[op.inputs[0]] == graph.specs[op.outputs[0]]


def drop_empty(graph: ModelGraph) -> ModelGraph:
    """Remove empty parts from concatenations; rotary embeddings of all features, for example, make some."""
    operators = []
    for op in graph.operators:
        arguments = op.arguments
        if op.target in ("aten.cat.default", "aten.concat.default", "aten.hstack.default"):
            parts = tuple(ref for ref in op.arg("tensors") if 0 not in graph.specs[ref.name].shape)
            if parts and len(parts) < len(op.arg("tensors")) and _keeps_dtype(graph, op, parts):
                arguments = tuple((key, parts if key == "tensors" else value) for key, value in arguments)
        operators.append(Operator(name=op.name, target=op.target, arguments=arguments, outputs=op.outputs))
    return drop_dead(replace(graph, operators=tuple(operators)))


def _keeps_dtype(graph: ModelGraph, op: Operator, parts: tuple[TensorRef, ...]) -> bool:
    """Whether the other parts still give the output its dtype; an empty part may have decided it."""
    return any(graph.specs[ref.name].dtype == graph.specs[op.output].dtype for ref in parts)


def normalise(graph: ModelGraph) -> ModelGraph:
    """Write splits as slices, named padding as numbers, and constant pads as one operator."""
    specs = dict(graph.specs)
    operators: list[Operator] = []
    for op in graph.operators:
        operators.extend(_normalised(op, specs))
    return replace(graph, operators=tuple(operators), specs=specs)


def _normalised(op: Operator, specs: dict[str, TensorSpec]) -> list[Operator]:
    name = op.target.removeprefix("aten.").split(".")[0]
    if name in ("split", "split_with_sizes", "chunk"):
        return _slices_of_split(op, specs)
    if name == "unbind":
        return _selects_of_unbind(op)
    if op.target in _WITHOUT_INDICES and not op.outputs[1]:
        return [_renamed(op, _WITHOUT_INDICES[op.target])]
    if op.target == "aten.instance_norm.default" and not op.arg("use_input_stats"):
        arguments = dict(op.arguments) | {"training": False}
        del arguments["use_input_stats"]
        return [_renamed(op, "aten.batch_norm.default", arguments)]
    if op.target in ("aten.conv1d.padding", "aten.conv2d.padding", "aten.conv3d.padding"):
        return _numeric_padding(op, specs)
    if op.target == "aten.pad.default" and op.arg("mode") == "constant":
        return [_constant_pad(op)]
    return [op]


def _renamed(op: Operator, target: str, arguments: Mapping[str, Value] | None = None) -> Operator:
    """Return a call of ``target`` that makes the first output of ``op``; by default with its arguments."""
    return Operator(
        name=op.name,
        target=target,
        arguments=op.arguments if arguments is None else tuple(arguments.items()),
        outputs=op.outputs[:1],
    )


def _constant_pad(op: Operator) -> Operator:
    value = 0.0 if op.arg("value") is None else op.arg("value")
    return Operator(
        name=op.name,
        target="aten.constant_pad_nd.default",
        arguments=(("self", op.arg("self")), ("pad", op.arg("pad")), ("value", value)),
        outputs=op.outputs,
    )


def _slices_of_split(op: Operator, specs: Mapping[str, TensorSpec]) -> list[Operator]:
    source = op.arguments[0][1]
    assert isinstance(source, TensorRef)
    shape = specs[source.name].shape
    dim = op.arg("dim") % len(shape)
    key, sizes = op.arguments[1]
    if key == "chunks":
        assert isinstance(sizes, int)
        sizes = -(-shape[dim] // sizes)
    made = []
    start = 0
    for index, output in enumerate(op.outputs):
        assert isinstance(sizes, int | tuple)
        size = sizes if isinstance(sizes, int) else sizes[index]
        assert isinstance(size, int)
        stop = min(start + size, shape[dim])
        if output:
            arguments = (("self", source), ("dim", dim), ("start", start), ("end", stop), ("step", 1))
            made.append(
                Operator(name=output, target="aten.slice.Tensor", arguments=arguments, outputs=(output,))
            )
        start = stop
    return made


def _selects_of_unbind(op: Operator) -> list[Operator]:
    source = op.arguments[0][1]
    return [
        Operator(
            name=output,
            target="aten.select.int",
            arguments=(("self", source), ("dim", op.arg("dim")), ("index", index)),
            outputs=(output,),
        )
        for index, output in enumerate(op.outputs)
        if output
    ]


def _numeric_padding(op: Operator, specs: dict[str, TensorSpec]) -> list[Operator]:
    """Write named padding as numbers: ``"same"`` pads the smaller half on the left, ``"valid"`` nothing."""
    weight = specs[op.arg("weight").name].shape
    spatial = len(weight) - 2
    dilations = op.arg("dilation") * spatial if len(op.arg("dilation")) == 1 else op.arg("dilation")
    totals = [
        dilations[dim] * (weight[2 + dim] - 1) if op.arg("padding") == "same" else 0 for dim in range(spatial)
    ]
    target = op.target.replace(".padding", ".default")
    extra: list[Operator] = []
    source = op.arg("input")
    if any(total % 2 for total in totals):
        # Uneven padding: add one explicit element on the right of these dims.
        spec = specs[source.name]
        odd = [total % 2 for total in totals]
        padded = f"{op.name}_padded"
        lead = spec.ndim - spatial
        shape = tuple(size + more for size, more in zip(spec.shape, [0] * lead + odd, strict=True))
        specs[padded] = TensorSpec(shape=shape, dtype=spec.dtype)
        pad = tuple(number for more in reversed(odd) for number in (0, more))
        extra.append(
            Operator(
                name=padded,
                target="aten.constant_pad_nd.default",
                arguments=(("self", source), ("pad", pad), ("value", 0.0)),
                outputs=(padded,),
            )
        )
        source = TensorRef(padded)
    changes: dict[str, Value] = {"input": source, "padding": tuple(total // 2 for total in totals)}
    arguments = tuple((key, changes.get(key, value)) for key, value in op.arguments)
    return [*extra, Operator(name=op.name, target=target, arguments=arguments, outputs=op.outputs)]


def fold_constants(graph: ModelGraph, *, evaluate: Evaluate) -> ModelGraph:
    """Evaluate operators that depend on weights only, or have no tensor inputs."""
    weights = dict(graph.weights)
    waiting = Counter(name for op in graph.operators for name in dict.fromkeys(op.inputs))
    waiting.update(graph.outputs)
    kept = []
    for op in graph.operators:
        if all(name in weights for name in op.inputs) and _is_worth_storing(graph, op):
            results = evaluate(op, weights)
            weights.update({name: array for name, array in zip(op.outputs, results, strict=True) if name})
            for name in dict.fromkeys(op.inputs):
                waiting[name] -= 1
                if not waiting[name]:  # free intermediates at once: masks are large and made in many steps
                    del weights[name]
        else:
            kept.append(op)
    return replace(graph, operators=tuple(kept), weights=weights)


def _is_worth_storing(graph: ModelGraph, op: Operator) -> bool:
    made = sum(graph.specs[name].num_bytes for name in op.used_outputs)
    read = sum(graph.specs[name].num_bytes for name in op.inputs)
    return made <= max(read, _MAX_CONSTANT_BYTES)


def fold_batch_norm(graph: ModelGraph) -> ModelGraph:
    """Fold BatchNorm in evaluation mode into the convolution before it, or into one product and one sum.

    With ``a = weight / sqrt(var + eps)``: ``BN(conv(x, W) + b) = conv(x, a W) + a (b - mean) + bias``,
    computed in float64 and rounded once.
    """
    specs, weights = dict(graph.specs), dict(graph.weights)
    operators: list[Operator] = []
    position: dict[str, int] = {}
    for op in graph.operators:
        affine = _affine(op, weights) if op.target in _BATCH_NORMS else None
        source = op.inputs[0] if affine is not None else ""
        if affine is None:
            operators.append(op)
        elif source in position and _can_fold(graph, operators[position[source]], weights):
            index = position[source]
            operators[index] = _folded(operators[index], op, affine, specs, weights)
            position[op.outputs[0]] = index
            continue
        else:
            operators.extend(_scaled(op, source, affine, specs, weights))
        position[operators[-1].outputs[0]] = len(operators) - 1
    return replace(graph, operators=tuple(operators), specs=specs, weights=weights)


def _affine(op: Operator, weights: Mapping[str, Array]) -> tuple[Array, Array] | None:
    """Return BatchNorm's (scale, shift) per channel in float64, or None if they are not constant."""
    arguments = dict(op.arguments)
    if arguments.get("training") is True or any(op.outputs[1:]):
        return None

    def value(key: str, default: float) -> Any:
        ref = arguments[key]
        if ref is None:
            return default
        assert isinstance(ref, TensorRef)
        return weights[ref.name].astype(np.float64) if ref.name in weights else None

    mean, variance = value("running_mean", 0.0), value("running_var", 1.0)
    weight, bias = value("weight", 1.0), value("bias", 0.0)
    if any(item is None for item in (mean, variance, weight, bias)):
        return None
    scale = np.asarray(weight / np.sqrt(variance + arguments["eps"]))
    return scale, np.asarray(bias - mean * scale)


def _can_fold(graph: ModelGraph, conv: Operator, weights: Mapping[str, Array]) -> bool:
    if conv.target not in _CONVOLUTIONS or conv.output in graph.outputs:
        return False
    kernel, bias = conv.arg("weight"), conv.arg("bias")
    if kernel.name not in weights or (bias is not None and bias.name not in weights):
        return False
    # The norm's channels are dim 1; a convolution of an unbatched input has its channels in dim 0.
    is_batched = graph.specs[conv.output].ndim == weights[kernel.name].ndim
    return is_batched and len(graph.consumers.get(conv.output, ())) == 1


def _store(
    name: str, value: Array, dtype: str, specs: dict[str, TensorSpec], weights: dict[str, Array]
) -> TensorRef:
    weights[name] = np.ascontiguousarray(value.astype(NUMPY_DTYPES[dtype]))
    specs[name] = TensorSpec(shape=tuple(value.shape), dtype=dtype)
    return TensorRef(name)


def _folded(
    conv: Operator,
    norm: Operator,
    affine: tuple[Array, Array],
    specs: dict[str, TensorSpec],
    weights: dict[str, Array],
) -> Operator:
    scale, shift = affine
    kernel = weights[conv.arg("weight").name].astype(np.float64)
    bias = 0.0 if conv.arg("bias") is None else weights[conv.arg("bias").name].astype(np.float64)
    dtype = specs[conv.output].dtype
    kernel = kernel * scale.reshape(-1, *[1] * (kernel.ndim - 1))
    changes: dict[str, Value] = {
        "weight": _store(f"{norm.name}_folded_weight", kernel, dtype, specs, weights),
        "bias": _store(f"{norm.name}_folded_bias", bias * scale + shift, dtype, specs, weights),
    }
    arguments = tuple((key, changes.get(key, value)) for key, value in conv.arguments)
    return Operator(name=conv.name, target=conv.target, arguments=arguments, outputs=norm.outputs[:1])


def _scaled(
    norm: Operator,
    source: str,
    affine: tuple[Array, Array],
    specs: dict[str, TensorSpec],
    weights: dict[str, Array],
) -> list[Operator]:
    spec = specs[source]
    column = (-1, *[1] * (spec.ndim - 2))
    scale, shift = (np.broadcast_to(value, spec.shape[1:2]).reshape(column) for value in affine)
    product = f"{norm.name}_scaled"
    specs[product] = spec
    factor = _store(f"{norm.name}_scale", scale, spec.dtype, specs, weights)
    offset = _store(f"{norm.name}_shift", shift, spec.dtype, specs, weights)
    return [
        Operator(
            name=product,
            target="aten.mul.Tensor",
            arguments=(("self", TensorRef(source)), ("other", factor)),
            outputs=(product,),
        ),
        Operator(
            name=norm.name,
            target="aten.add.Tensor",
            arguments=(("self", TensorRef(product)), ("other", offset), ("alpha", 1)),
            outputs=norm.outputs[:1],
        ),
    ]


def drop_dead(graph: ModelGraph) -> ModelGraph:
    """Remove operators, weights and tensors that no output depends on; inputs stay."""
    wanted = set(graph.outputs)
    kept = []
    for op in reversed(graph.operators):
        if any(name in wanted for name in op.outputs):
            kept.append(op)
            wanted.update(op.inputs)
    kept.reverse()
    operators = tuple(_without_dead_outputs(op, wanted) for op in kept)
    named = wanted | set(graph.inputs)
    return replace(
        graph,
        operators=operators,
        specs={name: spec for name, spec in graph.specs.items() if name in named},
        weights={name: value for name, value in graph.weights.items() if name in wanted},
    )


def _without_dead_outputs(op: Operator, wanted: set[str]) -> Operator:
    outputs = tuple(name if name in wanted else "" for name in op.outputs)
    if outputs == op.outputs:
        return op
    return Operator(name=op.name, target=op.target, arguments=op.arguments, outputs=outputs)
