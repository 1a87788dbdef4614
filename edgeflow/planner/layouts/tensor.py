"""Stages of a stretch whose weights are cut: heads, hidden columns and channels, in pairs where possible.

A *group* runs on an interval of its summed-over dim and ends in partial sums: column-parallel followed by
row-parallel, attention heads, an expanding and a projecting convolution. A heavy operator outside of groups
is cut along its *columns*, and what follows it elementwise stays cut. Everything else is run as the layout's
``reduce`` says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from edgeflow.graph.ir import Operator
from edgeflow.plan.stage import Piece
from edgeflow.planner.analysis import Analysis, Group
from edgeflow.planner.layouts.layout import Draft, Layout, drafts_by_level
from edgeflow.planner.layouts.levels import levels
from edgeflow.planner.layouts.partition import along
from edgeflow.planner.layouts.rows import labels_of
from edgeflow.sharding.region import Interval, Region, split_interval

#: Operators outside of groups with at least this share of the graph's FLOPs are cut along their outputs.
_MIN_COLUMN_SHARE: Final = 5e-3

#: Kernels of matrix products work on blocks; an interval that ends inside of one wastes the rest of it.
_BLOCK: Final = 8
_MIN_BLOCKED_SIZE: Final = 128


def tensor_drafts(analysis: Analysis, operators: Sequence[Operator], layout: Layout) -> list[Draft]:
    """Return the stages of a ``tensor`` layout."""
    groups = _groups(analysis, operators)
    columns = _columns(analysis, operators, groups)
    groups = _without_lonely(groups, columns, analysis)
    owned: dict[int, dict[str, Piece]] = {device: {} for device in layout.devices}
    cuts = _Cuts(analysis, layout)
    for op in operators:
        group = groups.get(op.name)
        for name in op.used_outputs:
            if group is None:
                pieces = cuts.of(op, name, columns.get(op.name))
            elif op.name == group.root:
                pieces = _partial_sums(analysis.full(name), group, layout)
            else:
                continue
            for device, piece in pieces.items():
                owned[device][name] = piece
    units = {name: group.operators for name, group in groups.items()}
    found = levels(analysis, operators, owned, units=units)

    def kind(members: Sequence[Operator]) -> str:
        names = [name for op in members for name in op.used_outputs]
        if any(op.name in groups for op in members) or cuts.columns.keys() & names:
            return "tensor"
        return "rows" if cuts.labels.keys() & names else "replicate"

    roots = {group.root for group in groups.values()}
    drafts = []
    for item in drafts_by_level(operators, found, owned, kind=kind):
        drafts.append(item)
        summed = [name for op in item.operators if op in roots for name in analysis.graph.by_name[op].outputs]
        if summed and layout.reduce != "direct":
            drafts.append(Draft("reduce", (), cuts.handed_over(summed)))
    return drafts


def _groups(analysis: Analysis, operators: Sequence[Operator]) -> dict[str, Group]:
    inside = {op.name for op in operators}
    return {
        name: group
        for group in analysis.groups
        if inside.issuperset(group.operators)
        for name in group.operators
    }


def _columns(
    analysis: Analysis, operators: Sequence[Operator], groups: Mapping[str, Group]
) -> dict[str, int]:
    """Heavy operators outside of groups -> the output dim along which their weights are cut."""
    return {
        op.name: dim
        for op in operators
        if op.name not in groups
        and analysis.flops[op.name] >= _MIN_COLUMN_SHARE * analysis.total_flops
        and (dim := analysis.column_dim(op)) is not None
    }


def _without_lonely(
    groups: dict[str, Group], columns: dict[str, int], analysis: Analysis
) -> dict[str, Group]:
    """Cut the columns of groups of one operator instead: that needs no sum."""
    kept = {}
    for name, group in groups.items():
        if len(group.operators) == 1:
            dim = analysis.column_dim(analysis.graph.by_name[name])
            if dim is not None:
                columns[name] = dim
                continue
        kept[name] = group
    return kept


def _partial_sums(full: Region, group: Group, layout: Layout) -> dict[int, Piece]:
    intervals = split_interval(group.size, layout.shares, multiple=_multiple(group.size, group.multiple))
    return {
        device: Piece(full, interval)
        for device, interval in zip(layout.devices, intervals, strict=True)
        if interval.length
    }


def _multiple(size: int, multiple: int = 1) -> int:
    return _BLOCK if multiple == 1 and size >= _MIN_BLOCKED_SIZE else multiple


class _Cuts:
    """What each device computes of operators outside of groups, decided in topological order."""

    def __init__(self, analysis: Analysis, layout: Layout) -> None:
        self._analysis = analysis
        self._layout = layout
        self.labels = labels_of(analysis, layout.labelling) if layout.reduce == "scatter" else {}
        #: Tensor -> the dim along which it was cut by columns, and where.
        self.columns: dict[str, tuple[int, tuple[Interval, ...]]] = {}

    def of(self, op: Operator, name: str, column: int | None) -> dict[int, Piece]:
        full = self._analysis.full(name)
        if column is not None:
            size = full[column].length
            intervals = split_interval(size, self._layout.shares, multiple=_multiple(size))
            self.columns[name] = (column, intervals)
        else:
            self._carry(op, name)
        if name in self.columns:
            dim, intervals = self.columns[name]
            return self._pieces(along(full, dim, self._layout.devices, intervals))
        return self._between(name, full)

    def _carry(self, op: Operator, name: str) -> None:
        """Cut what follows a cut operator elementwise in the same places."""
        arriving = {tensor: self.columns[tensor] for tensor in op.inputs if tensor in self.columns}
        if not arriving or len(op.outputs) != 1:
            return
        dim = self._analysis.carried_dim(op, {tensor: dim for tensor, (dim, _) in arriving.items()})
        if dim is None:
            return
        (source_dim, intervals), *others = arriving.values()
        source = next(iter(arriving))
        size = self._analysis.full(name)[dim].length
        scale, rest = divmod(size, self._analysis.full(source)[source_dim].length)
        if rest or any(other[1] != intervals for other in others):
            return
        self.columns[name] = (dim, tuple(Interval(a * scale, b * scale) for a, b in intervals))

    def _between(self, name: str, full: Region) -> dict[int, Piece]:
        """Return the pieces of a tensor between groups: as the layout's ``reduce`` says."""
        if self._layout.reduce == "star":
            return {self._layout.devices[0]: Piece(full)}
        if name in self.labels:
            return self._rows(name, full, self.labels[name])
        return {device: Piece(full) for device in self._layout.devices}

    def handed_over(self, names: Sequence[str]) -> dict[int, dict[str, Piece]]:
        """Return which devices add the partial sums of these tensors and own which part of the sum."""
        owned: dict[int, dict[str, Piece]] = {device: {} for device in self._layout.devices}
        for name in names:
            full = self._analysis.full(name)
            if self._layout.reduce == "star" or not len(full):  # a single number cannot be scattered
                owned[self._layout.devices[0]][name] = Piece(full)
                continue
            longest = max(range(len(full)), key=lambda dim: full[dim].length, default=0)
            for device, piece in self._rows(name, full, self.labels.get(name, longest)).items():
                owned[device][name] = piece
        return {device: mine for device, mine in owned.items() if mine}

    def _rows(self, name: str, full: Region, dim: int) -> dict[int, Piece]:
        intervals = split_interval(full[dim].length, self._layout.shares)
        return self._pieces(along(full, dim, self._layout.devices, intervals))

    @staticmethod
    def _pieces(boxes: Mapping[int, Region]) -> dict[int, Piece]:
        return {device: Piece(box) for device, box in boxes.items()}
