"""How much of a model can be split, along which dims, and how much of that the planner can use.

The rules say for each operator along which dims of its output, and over which sum, work can be divided. That
is necessary but not sufficient: a plan splits neighbouring operators alike. The builders of layouts are
therefore given the whole graph, to see which operators they split: by carrying a split of an input's dim
through it (rows, tokens), and by groups that end in a sum, with columns beside them (tensor parallelism).

Dims are numbered, not named: only the model knows whether dim 1 means channels, tokens, heads or windows. A
transposed map has its channels last, and no operator says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import msgspec

from edgeflow.graph.ir import ModelGraph, Operator
from edgeflow.planner.analysis import Analysis, analysis_of
from edgeflow.planner.layouts.build import draft
from edgeflow.planner.layouts.layout import Kind, Layout
from edgeflow.sharding.region import Interval
from edgeflow.sharding.rules import contraction_size, rule_of
from edgeflow.sharding.rules.base import BARRIER

#: A half must cost at most this share of the whole; otherwise the split repeats too much work.
_WORTH = 0.75

#: Why an operator runs whole.
NO_RULE = "no rule"
SEVERAL_OUTPUTS = "several outputs"
ONE_ELEMENT = "no dim is longer than one"
NEEDS_ALL = "each part costs as much as the whole"


class OperatorCoverage(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of operator in one model.

    Attributes:
        target: The overload.
        count: Operators of this kind.
        flops: FLOPs of all operators of this kind; without a rule a lower bound, one per element of the
            output.
        splits: Along what how many of them split, most common first: ``"dim 2"`` is dim 2 of an operator's
            output, ``"sum"`` an interval of the dim that it sums over, which makes partial sums.
        whole: How many of them split along nothing, by reason.
        num_by_inputs: How many the best split of an input's dim reaches; see `Coverage.reaches`.
        num_by_tensor: How many tensor parallelism reaches.
    """

    target: str
    count: int
    flops: int
    splits: dict[str, int]
    whole: dict[str, int]
    num_by_inputs: int
    num_by_tensor: int

    @property
    def num_whole(self) -> int:
        return sum(self.whole.values())

    @property
    def has_rule(self) -> bool:
        """Whether a rule covers all of them."""
        return NO_RULE not in self.whole and SEVERAL_OUTPUTS not in self.whole


class Reach(msgspec.Struct, frozen=True, kw_only=True):
    """How far one way of splitting goes through a whole graph.

    Attributes:
        kind: ``rows``: an input's dim, carried through the graph; ``tensor``: groups and columns.
        input: For ``rows``: the input whose dim is split.
        dim: For ``rows``: which one.
        num_operators: How many operators are split.
        flops: FLOPs of the operators that are split.
    """

    kind: Kind
    input: str = ""
    dim: int = -1
    num_operators: int
    flops: int


class Coverage(msgspec.Struct, frozen=True, kw_only=True):
    """How much of a model can be split.

    Attributes:
        name: Name of the graph.
        operators: Operators by kind, most FLOPs first.
        total_flops: FLOPs of the whole model; a lower bound where an operator has no rule.
        split_flops: FLOPs of the operators that can be split.
        num_groups: Groups of operators that tensor parallelism finds.
        reaches: What planners can use: a split of each dim of each input, most FLOPs first, and then tensor
            parallelism. They overlap, and a plan may use one here and another there.
    """

    name: str
    operators: tuple[OperatorCoverage, ...]
    total_flops: int
    split_flops: int
    num_groups: int
    reaches: tuple[Reach, ...]

    @property
    def split_share(self) -> float:
        """Share of the FLOPs that can be split, 0 to 1."""
        return self.split_flops / self.total_flops if self.total_flops else 1.0

    @property
    def barriers(self) -> tuple[OperatorCoverage, ...]:
        """Kinds with at least one operator that cannot be split."""
        return tuple(item for item in self.operators if item.whole)

    @property
    def is_bounded(self) -> bool:
        """Whether FLOPs and shares are only bounds: an operator without a rule has unknown cost."""
        return any(NO_RULE in item.whole or SEVERAL_OUTPUTS in item.whole for item in self.operators)


def coverage(graph: ModelGraph) -> Coverage:
    """Return how much of a graph can be split, by the operators' rules and by the builders of layouts."""
    analysis = analysis_of(graph)
    by_inputs = [
        (
            name,
            labels[name],
            _split_by(analysis, Layout(kind="rows", devices=(0, 1), shares=(1, 1), labelling=i)),
        )
        for i, labels in enumerate(analysis.labellings)
        for name in graph.inputs
        if name in labels
    ]
    by_inputs.sort(key=lambda item: -_flops(analysis, item[2]))
    by_tensor = _split_by(analysis, Layout(kind="tensor", devices=(0, 1), shares=(1, 1)))
    best = by_inputs[0][2] if by_inputs else frozenset()
    splits = {op.name: split_along(graph, op) for op in graph.operators}
    by_target: dict[str, list[Operator]] = {}
    for op in graph.operators:
        by_target.setdefault(op.target, []).append(op)
    rows = [
        OperatorCoverage(
            target=target,
            count=len(operators),
            flops=_flops(analysis, (op.name for op in operators)),
            splits=_most_common(way for op in operators for way in splits[op.name]),
            whole=_most_common(_why_whole(graph, op) for op in operators if not splits[op.name]),
            num_by_inputs=sum(op.name in best for op in operators),
            num_by_tensor=sum(op.name in by_tensor for op in operators),
        )
        for target, operators in by_target.items()
    ]
    return Coverage(
        name=graph.name,
        operators=tuple(sorted(rows, key=lambda row: (-row.flops, row.target))),
        total_flops=sum(analysis.flops.values()),
        split_flops=_flops(analysis, (name for name, ways in splits.items() if ways)),
        num_groups=len(analysis.groups),
        reaches=(
            *(
                Reach(
                    kind="rows",
                    input=name,
                    dim=dim,
                    num_operators=len(reached),
                    flops=_flops(analysis, reached),
                )
                for name, dim, reached in by_inputs
            ),
            Reach(kind="tensor", num_operators=len(by_tensor), flops=_flops(analysis, by_tensor)),
        ),
    )


def split_along(graph: ModelGraph, op: Operator) -> tuple[str, ...]:
    """Return the dims along which an operator's work divides, for example ``("dim 2", "sum")``."""
    if rule_of(op) is BARRIER:
        return ()
    analysis = analysis_of(graph)
    region, whole = analysis.full(op.first_output), analysis.whole(op)
    found = []
    for dim, interval in enumerate(region.intervals):
        if interval.length < 2:
            continue
        half = analysis.cutter.cut(op, region.replace(dim, Interval(0, interval.length // 2)))
        if half.region.num_elements < region.num_elements and half.flops <= _WORTH * whole.flops:
            found.append(f"dim {dim}")
    size = contraction_size(op, graph.specs)
    if size is not None and size > 1:
        found.append("sum")
    return tuple(found)


def _why_whole(graph: ModelGraph, op: Operator) -> str:
    """Return why an operator cannot be split."""
    if rule_of(op) is BARRIER:
        return SEVERAL_OUTPUTS if len(op.outputs) > 1 else NO_RULE
    is_single = graph.specs[op.first_output].num_elements == 1
    return ONE_ELEMENT if is_single else NEEDS_ALL


def _split_by(analysis: Analysis, layout: Layout) -> frozenset[str]:
    """Return the operators that no device computes whole when the whole graph has this layout."""
    found = set()
    for item in draft(analysis, analysis.graph.operators, layout):
        for name in item.operators:
            output = analysis.graph.by_name[name].first_output
            pieces = [mine[output] for mine in item.pieces.values() if output in mine]
            # Inside a group there are no pieces: they follow from those of its last operator.
            if all(piece.contraction or piece.region != analysis.full(output) for piece in pieces):
                found.add(name)
    return frozenset(found)


def _flops(analysis: Analysis, names: Iterable[str]) -> int:
    return sum(analysis.flops[name] for name in names)


def _most_common(words: Iterable[str]) -> dict[str, int]:
    return dict(Counter(words).most_common())
