"""What of a graph can be cut along with what: found by asking the rules, not by knowing models.

*Labels* say along which dim each tensor is split when a split of an input's dim is carried through the
graph (rows of an image become rows of every feature map, then tokens). *Groups* are sets of operators that
end in one that sums, and of which an interval of the summed-over dim takes only a part: column-parallel
followed by row-parallel, attention heads included. *Stretches* are pieces of the topological order between
which few bytes are alive: where a plan may change its mind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

import msgspec

from edgeflow.graph.forms import forms_of
from edgeflow.graph.ir import ModelGraph, Operator
from edgeflow.sharding.cut import Cut
from edgeflow.sharding.cutter import Cutter, cutter_of
from edgeflow.sharding.region import Interval, Region
from edgeflow.sharding.rules import contraction_size, rule_of
from edgeflow.sharding.rules.base import BARRIER

#: Contracted operators with less than this share of the graph's FLOPs are not worth a synchronisation.
_MIN_GROUP_SHARE = 1e-3
#: Where no label arrives, one begins only at an operator of at least this share of the FLOPs: a split of the
#: few numbers behind a global pool would cost a synchronisation and save nothing.
_MIN_START_SHARE = 1e-3
#: A half that costs more than this share of the whole is no half.
_MOST_OF_HALF = 0.75
#: Stretches are joined until each has this share of the FLOPs.
_MIN_STRETCH_SHARE = 1 / 50

#: Tensor -> the dim along which it is split.
Labels = Mapping[str, int]


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """Operators that can be run on an interval of one summed-over dim, without talking.

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


class Analysis:
    """Everything that strategies ask about one graph, computed when first asked for."""

    def __init__(self, graph: ModelGraph) -> None:
        self.graph = graph
        self.cutter: Cutter = cutter_of(graph)
        #: Operators of one form with labels in the same places carry them alike.
        self._carried: dict[object, int | None] = {}

    def whole(self, op: Operator) -> Cut:
        """The cut that makes an operator's whole output."""
        return self.cutter.cut(op, self.full(op.first_output))

    def full(self, tensor: str) -> Region:
        return Region.full(self.graph.specs[tensor].shape)

    @cached_property
    def flops(self) -> Mapping[str, int]:
        """Operator -> FLOPs of the whole of it."""
        return {op.name: self.whole(op).flops for op in self.graph.operators}

    @cached_property
    def total_flops(self) -> int:
        return max(1, sum(self.flops.values()))

    # Labels

    @cached_property
    def labels(self) -> Labels:
        """The labels that split the most FLOPs; among equals, those of the lowest dim of the input."""
        return self.labellings[0] if self.labellings else {}

    @cached_property
    def labellings(self) -> tuple[Labels, ...]:
        """Labels from each dim of each input, best first."""
        found: list[tuple[float, int, Labels]] = []
        for name in self.graph.inputs:
            for dim, size in enumerate(self.graph.specs[name].shape):
                if size > 1:
                    labels = self._carry({name: dim}, may_start=False)
                    split = sum(
                        self.flops[op.name] for op in self.graph.operators if op.first_output in labels
                    )
                    found.append((-split / self.total_flops, dim, self._carry({name: dim}, may_start=True)))
        found.sort(key=lambda item: (round(item[0], 6), item[1]))
        return tuple(labels for _, _, labels in found)

    def _carry(self, seeds: Labels, *, may_start: bool) -> Labels:
        """Carry labels from inputs to results; with ``may_start``, also begin anew where none arrives."""
        labels = dict(seeds)
        for op in self.graph.operators:
            if rule_of(op) is BARRIER:
                continue
            arriving = [name for name in op.inputs if name in labels]
            starts = (
                may_start
                and self.flops[op.name] >= _MIN_START_SHARE * self.total_flops
                and self.graph.activation_inputs(op)
            )
            if arriving or starts:
                dim = self.carried_dim(op, labels)
                if dim is not None:
                    labels.update(dict.fromkeys(op.used_outputs, dim))
        return labels

    def carried_dim(self, op: Operator, labels: Labels) -> int | None:
        """The output dim whose halves read the smallest parts of the labelled inputs.

        Of two that read equally little the one that reads something of more of them: half of the channels
        of a concatenation reads one of its inputs whole, half of the rows reads half of each.
        """
        first, _ = forms_of(self.graph).of(op)
        question = first.name, tuple([labels.get(name) for name in op.inputs])
        if question not in self._carried:
            self._carried[question] = self._find_carried(op, labels)
        return self._carried[question]

    def _find_carried(self, op: Operator, labels: Labels) -> int | None:
        region = self.full(op.first_output)
        best: tuple[tuple[int, float], int] | None = None
        for dim, interval in enumerate(region.intervals):
            if interval.length < 2:
                continue
            half = self.cutter.cut(op, region.replace(dim, Interval(0, interval.length // 2)))
            saved = self._saved(op, half, labels)
            if saved[1] > 0 and (best is None or saved > best[0]):
                best = (saved, dim)
        return self._spanned_dim(op, labels) if best is None else best[1]

    def _saved(self, op: Operator, half: Cut, labels: Labels) -> tuple[int, float]:
        """How many of its labelled inputs a half reads in part, and how many elements less than the whole.

        Where no input has a label, activations count along any dim, unless a weight matrix shrinks with
        them: that would be a split of channels, not of positions.
        """
        specs = self.graph.specs
        whole, part = self.whole(op).needs, half.needs
        known = [name for name in whole if name in labels]
        if known:
            lengths = {name: _length(part.get(name), labels[name]) for name in known}
            num_partial = sum(0 < lengths[name] < whole[name][labels[name]].length for name in known)
            elements = sum(
                (whole[name][labels[name]].length - lengths[name])
                * specs[name].num_elements
                / specs[name].shape[labels[name]]
                for name in known
            )
            return num_partial, elements
        changed = [name for name in whole if part.get(name) != whole[name]]
        return (0, 0.0) if self._shrinks_matrix(op, half) else (0, float(len(changed)))

    def _spanned_dim(self, op: Operator, labels: Labels) -> int | None:
        """The labelled dim of an input, where windows are so long that each reads all of it.

        Seven rows of a window on a map of four: every output row reads every input row, and yet they are
        rows, and half of them is half of the work.
        """
        region = self.full(op.first_output)
        for name in self.graph.activation_inputs(op):
            dim = labels.get(name)
            if dim is None or self.graph.specs[name].ndim != len(region) or region[dim].length < 2:
                continue
            half = self.cutter.cut(op, region.replace(dim, Interval(0, region[dim].length // 2)))
            is_half = half.flops <= _MOST_OF_HALF * self.flops[op.name]
            if is_half and half.region != region and not self._shrinks_matrix(op, half):
                return dim
        return None

    def _shrinks_matrix(self, op: Operator, half: Cut) -> bool:
        """Whether a half reads less of a weight of several dims."""
        whole, part = self.whole(op).needs, half.needs
        return any(
            name in self.graph.weights and self.graph.specs[name].ndim > 1 and part.get(name) != whole[name]
            for name in whole
        )

    def sums_along(self, op: Operator, labels: Labels) -> bool:
        """Whether ``op`` can make partial sums over the labelled dim of its input."""
        size = contraction_size(op, self.graph.specs)
        if size is None or size < 2:
            return False
        half = self.cutter.cut(op, self.full(op.output), Interval(0, size // 2))
        read = [item for item in half.slices if item.tensor in labels]
        return bool(read) and all(
            # Another dim may happen to be as long as half of the summed-over one.
            self.graph.specs[item.tensor].shape[labels[item.tensor]] == size
            and item.region[labels[item.tensor]] == Interval(0, size // 2)
            for item in read
        )

    # Groups

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """Disjoint groups, last operators first chosen, so that pairs form from the summing end."""
        taken: set[str] = set()
        found = []
        for op in reversed(self.graph.operators):
            if op.name in taken or self.flops[op.name] < _MIN_GROUP_SHARE * self.total_flops:
                continue
            group = self._group(op, taken)
            if group is not None:
                taken.update(group.operators)
                found.append(group)
        return tuple(reversed(found))

    def _group(self, root: Operator, taken: set[str]) -> Group | None:
        size = contraction_size(root, self.graph.specs)
        if size is None or size < 2 or not any(name in self.graph.weights for name in root.inputs):
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
        """Operators before ``root`` of which ``interval`` needs only a part, and that nobody else reads."""
        cuts = {root.name: self.cutter.cut(root, self.full(root.output), interval)}
        needs = dict(cuts[root.name].needs)
        members = [root]
        names = {root.name}
        for op in reversed(self.graph.operators[: self.graph.operators.index(root)]):
            if op.name in taken or len(op.outputs) != 1 or op.output not in needs:
                continue
            need = needs[op.output]
            readers = {reader.name for reader in self.graph.consumers[op.output]}
            is_part = not need.is_full(self.graph.specs[op.output].shape)
            if not is_part or not readers <= names or op.output in self.graph.outputs:
                continue
            cut = self.cutter.cut(op, need)
            if cut.region.is_full(self.graph.specs[op.output].shape):
                continue
            for name, region in cut.needs.items():
                needs[name] = region if name not in needs else needs[name].hull(region)
            members.append(op)
            names.add(op.name)
        return tuple(reversed(members))

    def _group_flops(self, members: Sequence[Operator], interval: Interval) -> int:
        """FLOPs of a group's members for one interval of the summed-over dim."""
        root = members[-1]
        cut = self.cutter.cut(root, self.full(root.output), interval)
        needs, flops = dict(cut.needs), cut.flops
        for op in reversed(members[:-1]):
            if op.output not in needs:  # concatenated: this interval reads other branches only
                continue
            cut = self.cutter.cut(op, needs[op.output])
            flops += cut.flops
            for name, region in cut.needs.items():
                needs[name] = region if name not in needs else needs[name].hull(region)
        return flops

    def column_dim(self, op: Operator) -> int | None:
        """The output dim along which a weight of ``op`` is cut and its FLOPs halve, or None."""
        if len(op.outputs) != 1:
            return None
        region = self.full(op.first_output)
        for dim in reversed(range(len(region))):
            length = region[dim].length
            if length < 2:
                continue
            half = self.cutter.cut(op, region.replace(dim, Interval(0, length // 2)))
            cuts_weight = any(
                item.tensor in self.graph.weights
                and self.graph.specs[item.tensor].ndim > 1
                and not item.region.is_full(self.graph.specs[item.tensor].shape)
                for item in half.slices
            )
            if cuts_weight and half.flops <= 0.6 * self.flops[op.name]:
                return dim
        return None

    # Stretches

    @cached_property
    def stretches(self) -> tuple[tuple[Operator, ...], ...]:
        """The topological order, cut where few bytes are alive and no group is torn."""
        operators = self.graph.operators
        allowed = self._boundaries()
        stretches: list[tuple[Operator, ...]] = []
        start, flops = 0, 0
        for index, op in enumerate(operators):
            flops += self.flops[op.name]
            if index + 1 in allowed and flops >= _MIN_STRETCH_SHARE * self.total_flops:
                stretches.append(operators[start : index + 1])
                start, flops = index + 1, 0
        if start < len(operators):
            stretches.append(operators[start:])
        return tuple(stretches)

    def _boundaries(self) -> set[int]:
        alive = self.graph.alive_bytes
        inside: set[int] = set()
        position = {op.name: index for index, op in enumerate(self.graph.operators)}
        for group in self.groups:
            first = min(position[name] for name in group.operators)
            inside.update(range(first + 1, position[group.root] + 1))
        last = len(alive) - 1
        return {
            index
            for index in range(1, last)
            if index not in inside
            and alive[index] <= alive[index - 1] * 1.01
            and alive[index] <= alive[index + 1] * 1.01
        }


def _length(region: Region | None, dim: int) -> int:
    return 0 if region is None else region[dim].length


def analysis_of(graph: ModelGraph) -> Analysis:
    """Return the graph's analysis; it lives as long as the graph."""
    return graph.remembered(Analysis)
