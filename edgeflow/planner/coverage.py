"""What of a model can be split, and along what: asked of the rules, operator by operator."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from edgeflow.graph.ir import ModelGraph, Operator
from edgeflow.planner.analysis import analysis_of, first_output
from edgeflow.sharding.region import Interval
from edgeflow.sharding.rules import contraction_size, rule_of
from edgeflow.sharding.rules.base import BARRIER

#: A half must cost at most this share of the whole, else the split repeats too much to be called one.
_WORTH = 0.75

_IMAGE = ("batch", "channels", "rows", "columns", "depth")
_SEQUENCE = ("batch", "tokens", "features")
_ATTENTION = ("batch", "heads", "tokens", "features")


class OperatorCoverage(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of operator in one model.

    Attributes:
        target: The overload.
        count: Operators of this kind.
        flops: Of all of them together.
        dims: Along which at least one of them splits, most common first; ``sum`` is a contraction.
        num_whole: Operators that split along nothing: without a rule, or a dim longer than one.
        has_rule: Whether a rule covers the kind.
    """

    target: str
    count: int
    flops: int
    dims: tuple[str, ...]
    num_whole: int
    has_rule: bool


class Coverage(msgspec.Struct, frozen=True, kw_only=True):
    """How much of a model can be split.

    Attributes:
        name: Of the graph.
        operators: By kind, most FLOPs first.
        total_flops: Of the whole model.
        split_flops: Of the operators that can be split along something.
    """

    name: str
    operators: tuple[OperatorCoverage, ...]
    total_flops: int
    split_flops: int

    @property
    def split_share(self) -> float:
        """Share of the FLOPs that can be split, 0 to 1."""
        return self.split_flops / self.total_flops if self.total_flops else 1.0

    @property
    def barriers(self) -> tuple[OperatorCoverage, ...]:
        """Kinds of which something splits along nothing."""
        return tuple(item for item in self.operators if item.num_whole)


def coverage(graph: ModelGraph) -> Coverage:
    """Ask every operator's rule along which dims of its output, or of its sum, work can be divided."""
    analysis = analysis_of(graph)
    by_target: dict[str, list[tuple[Operator, tuple[str, ...]]]] = {}
    for op in graph.operators:
        by_target.setdefault(op.target, []).append((op, split_dims(graph, op)))
    rows = [
        OperatorCoverage(
            target=target,
            count=len(items),
            flops=sum(analysis.flops[op.name] for op, _ in items),
            dims=_most_common([dim for _, dims in items for dim in dims]),
            num_whole=sum(not dims for _, dims in items),
            has_rule=rule_of(items[0][0]) is not BARRIER,
        )
        for target, items in by_target.items()
    ]
    split = sum(analysis.flops[op.name] for items in by_target.values() for op, dims in items if dims)
    return Coverage(
        name=graph.name,
        operators=tuple(sorted(rows, key=lambda row: (-row.flops, row.target))),
        total_flops=sum(analysis.flops.values()),
        split_flops=split,
    )


def split_dims(graph: ModelGraph, op: Operator) -> tuple[str, ...]:
    """Names of the dims along which an operator's work, or what it reads, divides."""
    if rule_of(op) is BARRIER:
        return ()
    analysis = analysis_of(graph)
    region, whole = analysis.full(first_output(op)), analysis.whole(op)
    found = []
    for dim, interval in enumerate(region.intervals):
        if interval.length < 2:
            continue
        half = analysis.cutter.cut(op, region.replace(dim, Interval(0, interval.length // 2)))
        if half.region.num_elements < region.num_elements and half.flops <= _WORTH * whole.flops:
            found.append(_dim_name(graph, op, dim))
    size = contraction_size(op, graph.specs)
    if size is not None and size > 1:
        found.append("sum")
    return tuple(found)


def _dim_name(graph: ModelGraph, op: Operator, dim: int) -> str:
    ndim = graph.specs[first_output(op)].ndim
    if ndim == 4 and ("attention" in op.target or "matmul" in op.target or "softmax" in op.target):
        return _ATTENTION[dim]
    if ndim <= 3:
        return _SEQUENCE[dim + 3 - ndim]
    return _IMAGE[dim] if dim < len(_IMAGE) else f"dim {dim}"


def _most_common(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(sorted(dict.fromkeys(names), key=lambda name: -names.count(name)))
