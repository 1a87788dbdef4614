"""Passes that write views and fused projections so that heads stay boxes of what they are taken from.

Both leave results as they are; they matter to who cuts the graph. A region is a box, one interval a dim: the
heads ``[2, 4)`` of a projection are a box of its features, but not of ``(batch * heads)`` merged, and not of
queries, keys and values side by side in one tensor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise

import numpy as np

from edgeflow.graph.ir import Array, ModelGraph, Operator, TensorRef, TensorSpec, Value
from edgeflow.graph.views import Chain, is_reshape, is_view, write

#: Product with a constant -> the result's dim of features, counted from the end, and (argument, dim) of what
#: is cut along with it.
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
    """Where a chain of views merges two dims and takes them apart again, let it do neither.

    ``(L, N*H, D)`` seen as ``(N, H, L, D)`` on the way from ``(L, N, H*D)``, as `nn.MultiheadAttention` does,
    is a permutation of ``(L, N, H, D)``.
    """
    specs = dict(graph.specs)
    chains: dict[str, tuple[str, Chain]] = {}
    operators: list[Operator] = []
    for op in graph.operators:
        before = _chain_before(op, chains, specs) if is_view(op) else None
        after = None if before is None else before[1].after(op, specs[op.output].shape)
        if before is None or after is None or after.bounds != before[1].bounds:
            operators.append(op)  # a slice begins a chain of its own
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
    """Whether factors that shared a dim stand in several now: a seam inside of a dim has become a border.

    Seams and borders are told by the product of the sizes before them; tearing one factor makes no seam.
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
    """Write a product with a constant, of whose features each reader takes an interval, as one for each.

    Queries, keys and values of one fused product (or the gate and the value of an MLP) become three: the same
    arithmetic on slices of the weight. Left alone are products of which any reader takes all, or of which
    readers take intervals that overlap.
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
    """Return every view of ``op``'s result that takes an interval of its features first; none where some
    reader takes all of them, or intervals overlap."""
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
    """Whether what is cut along the features is constant, and of the plain form that `_PROJECTIONS` says."""
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
    """``op`` on an interval of its features; slices of the weights are stored, once each."""
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
