"""Passes that rewrite views and fused projections so that attention heads stay boxes of their source.

Results do not change, but the graph can be cut in more ways. A region is a box, one interval per dim: heads
``[2, 4)`` of a projection are a box of its features, but not a box of a merged ``(batch * heads)`` dim, nor
of queries, keys and values side by side in one tensor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise

import numpy as np

from edgeflow.graph.ir import Array, ModelGraph, Operator, TensorRef, TensorSpec, Value
from edgeflow.graph.views import Chain, is_reshape, is_view, write

#: Product with a constant -> (feature dim of the result, counted from the end; (argument, dim) pairs that are
#: cut along with it).
_PROJECTIONS: Mapping[str, tuple[int, tuple[tuple[str, int], ...]]] = {
    "aten.linear.default": (-1, (("weight", 0), ("bias", 0))),
    "aten.addmm.default": (-1, (("mat2", 1), ("self", -1))),
    "aten.mm.default": (-1, (("mat2", 1),)),
    "aten.matmul.default": (-1, (("other", 1),)),
    "aten.conv1d.default": (-2, (("weight", 0), ("bias", 0))),
    "aten.conv2d.default": (-3, (("weight", 0), ("bias", 0))),
}

_Interval = tuple[int, int]


def untangle_views(graph: ModelGraph) -> ModelGraph:
    """Rewrite chains of views that merge two dims and later split them, so that they do neither.

    `nn.MultiheadAttention` views ``(L, N, H*D)`` as ``(L, N*H, D)`` and then as ``(N, H, L, D)``, which is a
    permutation of ``(L, N, H, D)``.
    """
    specs = dict(graph.specs)
    chains: dict[str, tuple[str, Chain]] = {}
    operators: list[Operator] = []
    for op in graph.operators:
        before = _chain_before(op, chains, specs) if is_view(op) else None
        after = None if before is None else before[1].after(op, specs[op.output].shape)
        if before is None or after is None or after.bounds != before[1].bounds:
            operators.append(op)  # a slice starts a new chain
            continue
        root, chain = before
        chains[op.output] = (root, after)
        if is_reshape(op) and _takes_apart(chain, after):
            made = write(after, root, op.output, shape=specs[op.output].shape, dtype=specs[op.output].dtype)
            operators += [item for item, _ in made]
            specs.update({item.output: spec for item, spec in made})
        else:
            operators.append(op)
    return replace(graph, operators=tuple(operators), specs=specs)


def _chain_before(
    op: Operator, chains: Mapping[str, tuple[str, Chain]], specs: Mapping[str, TensorSpec]
) -> tuple[str, Chain]:
    source = op.inputs[0]
    return chains.get(source, (source, Chain.of(specs[source].shape)))


def _takes_apart(before: Chain, after: Chain) -> bool:
    """Whether a reshape separates factors that shared a dim: a seam inside a dim becomes a border of dims.

    Seams and borders are identified by the product of the sizes before them. Splitting one factor makes no
    seam.
    """
    seams, borders, reached = set(), set(), 1
    for places in before.dims:
        for dim, index in places:
            reached *= before.factors[dim][index]
            seams.add(reached)
        seams.discard(reached)
    reached = 1
    for size in after.shape:
        reached *= size
        borders.add(reached)
    return bool(seams & borders)


def split_projections(graph: ModelGraph) -> ModelGraph:
    """Split a product with a constant into one product per interval of features that is read.

    A fused product of queries, keys and values (or gate and value of an MLP) becomes separate products on
    slices of the weight. A product is left alone if a reader takes all features, or if intervals overlap.
    """
    specs, weights = dict(graph.specs), dict(graph.weights)
    replaced: dict[str, list[Operator]] = {}
    for op in graph.operators:
        parts = _parts(graph, op)
        if not parts:
            continue
        dim = len(specs[op.output].shape) + _PROJECTIONS[op.target][0]
        replaced[op.name] = [
            _projection(graph, op, interval, specs, weights)
            for interval in sorted({chain.bounds[dim] for chain in parts.values()})
        ]
        for name, chain in parts.items():
            source = _part_name(op, chain.bounds[dim])
            made = write(chain, source, name, shape=specs[name].shape, dtype=specs[name].dtype)
            specs.update({item.output: spec for item, spec in made})
            replaced[graph.producer[name].name] = [item for item, _ in made]
    operators = [made for op in graph.operators for made in replaced.get(op.name, [op])]
    return replace(graph, operators=tuple(operators), specs=specs, weights=weights)


def _parts(graph: ModelGraph, op: Operator) -> dict[str, Chain]:
    """Return the views that first narrow the features of ``op``'s result to an interval, by tensor name.

    Empty if some reader takes all features, intervals overlap, or another dim is narrowed as well.
    """
    if op.target not in _PROJECTIONS or not _has_constant(graph, op):
        return {}
    dim = len(graph.specs[op.output].shape) + _PROJECTIONS[op.target][0]
    parts: dict[str, Chain] = {}
    waiting = [(op.output, Chain.of(graph.specs[op.output].shape))]
    while waiting:
        name, chain = waiting.pop()
        if name in graph.outputs:
            return {}
        for reader in graph.consumers.get(name, ()):
            after = chain.after(reader, graph.specs[reader.outputs[0]].shape) if is_view(reader) else None
            if after is None:
                return {}
            if after.bounds[dim] == chain.bounds[dim]:
                waiting.append((reader.output, after))
            else:
                parts[reader.output] = after
    intervals = sorted({chain.bounds[dim] for chain in parts.values()})
    overlaps = any(before[1] > after[0] for before, after in pairwise(intervals))
    only_features = all(
        bounds == (0, size)
        for chain in parts.values()
        for index, (bounds, size) in enumerate(zip(chain.bounds, graph.specs[op.output].shape, strict=True))
        if index != dim
    )
    return {} if overlaps or not only_features else parts


def _has_constant(graph: ModelGraph, op: Operator) -> bool:
    """Whether the arguments that `_PROJECTIONS` names are constants with the full length of the features."""
    if dict(op.arguments).get("groups", 1) != 1 or dict(op.arguments).get("beta", 1) != 1:
        return False
    features = graph.specs[op.output].shape[_PROJECTIONS[op.target][0]]
    for key, dim in _PROJECTIONS[op.target][1]:
        ref = op.arg(key)
        if ref is None:
            continue
        if ref.name not in graph.weights:
            return False
        shape = graph.specs[ref.name].shape
        if not shape or dim >= len(shape) or shape[dim] != features or (key == "other" and len(shape) != 2):
            return False
    return True


def _part_name(op: Operator, interval: _Interval) -> str:
    return f"{op.name}_{interval[0]}_{interval[1]}"


def _projection(
    graph: ModelGraph,
    op: Operator,
    interval: _Interval,
    specs: dict[str, TensorSpec],
    weights: dict[str, Array],
) -> Operator:
    """Return ``op`` restricted to an interval of its features; each slice of a weight is stored once."""
    start, stop = interval
    feature, cut = _PROJECTIONS[op.target]
    changes: dict[str, Value] = {}
    for key, dim in cut:
        ref = op.arg(key)
        if ref is None:
            continue
        name = f"{ref.name}_{start}_{stop}" if dim != 1 else f"{ref.name}_columns_{start}_{stop}"
        if name not in weights:
            index = [slice(None)] * graph.specs[ref.name].ndim
            index[dim] = slice(start, stop)
            weights[name] = np.ascontiguousarray(weights[ref.name][tuple(index)])
            specs[name] = TensorSpec(shape=tuple(weights[name].shape), dtype=specs[ref.name].dtype)
        changes[key] = TensorRef(name)
    output = _part_name(op, interval)
    shape = list(specs[op.output].shape)
    shape[len(shape) + feature] = stop - start
    specs[output] = TensorSpec(shape=tuple(shape), dtype=specs[op.output].dtype)
    arguments = tuple((key, changes.get(key, value)) for key, value in op.arguments)
    return Operator(name=output, target=op.target, arguments=arguments, outputs=(output,))
