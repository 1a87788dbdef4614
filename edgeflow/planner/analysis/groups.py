"""Groups: operators that run on an interval of one summed-over dim without communication.

A group ends in an operator that sums: column-parallel followed by row-parallel, attention heads included.
Operators outside of groups may still be cut along the columns of their weights.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from edgeflow.graph.ir import Operator
from edgeflow.planner.analysis.whole import WholeGraph
from edgeflow.sharding.region import Interval
from edgeflow.sharding.rules import contraction_size

#: Contracted operators with less than this share of the graph's FLOPs are not worth a synchronisation.
_MIN_GROUP_SHARE = 1e-3


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """Operators that run on an interval of one summed-over dim without communication.

    Attributes:
        operators: In topological order; the last one sums.
        size: Length of the summed-over dim.
        multiple: Intervals at multiples of this repeat no work (whole heads, whole groups of heads).
        flops: Of the whole group.
        has_spatial_kernel: Whether a convolution is in it.
    """

    operators: tuple[str, ...]
    size: int
    multiple: int
    flops: int
    has_spatial_kernel: bool

    @property
    def root(self) -> str:
        return self.operators[-1]


class GroupFinder:
    """Finds groups and columns of one graph."""

    def __init__(self, whole: WholeGraph) -> None:
        self._whole = whole
        self._graph = whole.graph

    def groups(self) -> tuple[Group, ...]:
        """Return disjoint groups, found backwards so that pairs form at the operator that sums."""
        taken: set[str] = set()
        found = []
        for op in reversed(self._graph.operators):
            if op.name in taken or self._whole.flops[op.name] < _MIN_GROUP_SHARE * self._whole.total_flops:
                continue
            group = self._group(op, taken)
            if group is not None:
                taken.update(group.operators)
                found.append(group)
        return tuple(reversed(found))

    def _group(self, root: Operator, taken: set[str]) -> Group | None:
        size = contraction_size(root, self._graph.specs)
        if size is None or size < 2 or not any(name in self._graph.weights for name in root.inputs):
            return None
        members = self._members(root, Interval(0, size // 2), taken)
        flops = self._group_flops(members, Interval(0, size))
        multiple = next(
            (
                unit
                for unit in range(1, size // 2 + 1)
                if size % unit == 0
                and self._group_flops(members, Interval(0, unit)) * size <= 1.02 * flops * unit
                and self._group_flops(members, Interval(size - unit, size)) * size <= 1.02 * flops * unit
            ),
            None,
        )
        if multiple is None:
            return None
        return Group(
            operators=tuple(op.name for op in members),
            size=size,
            multiple=multiple,
            flops=flops,
            has_spatial_kernel=any(".conv" in op.target for op in members),
        )

    def _members(self, root: Operator, interval: Interval, taken: set[str]) -> tuple[Operator, ...]:
        """Return ``root`` and the operators that only it reads and that ``interval`` needs in part."""
        cuts = {root.name: self._whole.cutter.cut(root, self._whole.full(root.output), interval)}
        needs = dict(cuts[root.name].needs)
        members = [root]
        names = {root.name}
        for op in reversed(self._graph.operators[: self._graph.operators.index(root)]):
            if op.name in taken or len(op.outputs) != 1 or op.output not in needs:
                continue
            need = needs[op.output]
            readers = {reader.name for reader in self._graph.consumers[op.output]}
            is_part = not need.is_full(self._graph.specs[op.output].shape)
            if not is_part or not readers <= names or op.output in self._graph.outputs:
                continue
            cut = self._whole.cutter.cut(op, need)
            if cut.region.is_full(self._graph.specs[op.output].shape):
                continue
            for name, region in cut.needs.items():
                needs[name] = region if name not in needs else needs[name].hull(region)
            members.append(op)
            names.add(op.name)
        return tuple(reversed(members))

    def _group_flops(self, members: Sequence[Operator], interval: Interval) -> int:
        """Return the FLOPs of a group's members for one interval of the summed-over dim."""
        root = members[-1]
        cut = self._whole.cutter.cut(root, self._whole.full(root.output), interval)
        needs, flops = dict(cut.needs), cut.flops
        for op in reversed(members[:-1]):
            if op.output not in needs:  # concatenated: this interval reads other branches only
                continue
            cut = self._whole.cutter.cut(op, needs[op.output])
            flops += cut.flops
            for name, region in cut.needs.items():
                needs[name] = region if name not in needs else needs[name].hull(region)
        return flops

    def column_dim(self, op: Operator) -> int | None:
        """Return the output dim along which a weight of ``op`` is cut and its FLOPs halve, or None."""
        if len(op.outputs) != 1:
            return None
        region = self._whole.full(op.first_output)
        for dim in reversed(range(len(region))):
            length = region[dim].length
            if length < 2:
                continue
            half = self._whole.cutter.cut(op, region.replace(dim, Interval(0, length // 2)))
            cuts_weight = any(
                item.tensor in self._graph.weights
                and self._graph.specs[item.tensor].ndim > 1
                and not item.region.is_full(self._graph.specs[item.tensor].shape)
                for item in half.slices
            )
            if cuts_weight and half.flops <= 0.6 * self._whole.flops[op.name]:
                return dim
        return None
