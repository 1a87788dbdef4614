"""Layer by layer from a hub: one device has every tensor, hands out a layer's input and gathers its result.

Shared by the strategies of that kind: which operators are layers, what runs along with them, and that the hub
runs everything else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edgeflow.graph.ir import Operator
from edgeflow.plan.stage import Piece
from edgeflow.planner.analysis import Analysis
from edgeflow.planner.layouts.layout import Draft, names_of, single_draft
from edgeflow.sharding.region import Interval
from edgeflow.sharding.rules import contraction_size

#: Operators of one layer, and their drafts.
Layer = tuple[Sequence[Operator], Sequence[Draft]]


def is_convolution(op: Operator) -> bool:
    return ".conv" in op.target


def with_followers(analysis: Analysis, op: Operator, dim: int) -> tuple[Operator, ...]:
    """Return ``op`` and the chain of its elementwise followers along ``dim``, each a sole reader."""
    chain = [op]
    while (follower := _follower(analysis, chain[-1], dim)) is not None:
        chain.append(follower)
    return tuple(chain)


def sole_reader(analysis: Analysis, tensor: str) -> Operator | None:
    """Return the only reader of a tensor, if it reads no other activation; else None."""
    graph = analysis.graph
    readers = {reader.name for reader in graph.consumers.get(tensor, ())}
    if tensor in graph.outputs or len(readers) != 1:
        return None
    reader = graph.by_name[readers.pop()]
    return reader if set(graph.activation_inputs(reader)) == {tensor} else None


def _follower(analysis: Analysis, op: Operator, dim: int) -> Operator | None:
    reader = sole_reader(analysis, op.output)
    if reader is None or len(reader.outputs) != 1 or is_convolution(reader):
        return None
    if contraction_size(reader, analysis.graph.specs) is not None:
        return None
    made, read = analysis.full(reader.output), analysis.full(op.output)
    if made != read:
        return None
    half = Interval(0, max(1, read[dim].length // 2))
    needs = analysis.cutter.cut(reader, made.replace(dim, half)).needs
    return reader if needs.get(op.output) == read.replace(dim, half) else None


def drafts_around(
    analysis: Analysis, hub: int, layer_of: Callable[[Operator], Layer | None]
) -> tuple[Draft, ...]:
    """Return the drafts of the whole graph: layers in order, and what lies between them on the hub.

    Args:
        layer_of: Returns the layer that begins at an operator, or None if the hub runs it; called in order,
            for operators that are in no layer yet.
    """
    drafts: list[Draft] = []
    placed: set[str] = set()
    between: list[Operator] = []

    def flush() -> None:
        if between:
            drafts.append(single_draft(analysis, between, hub))
            between.clear()

    for op in analysis.graph.operators:
        if op.name in placed:
            continue
        layer = layer_of(op)
        if layer is None:
            between.append(op)
            continue
        flush()
        members, stages = layer
        placed.update(names_of(members))
        drafts += stages
    flush()
    return tuple(drafts)


def gathered(analysis: Analysis, tensor: str, hub: int) -> Draft:
    """Return the draft that hands all of a tensor, or the sum of its partial sums, over to the hub."""
    return Draft("gather", (), {hub: {tensor: Piece(analysis.full(tensor))}})
