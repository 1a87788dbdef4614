"""Labels: along which dim each tensor is split when the split of one input dim is carried through the graph.

Rows of an image become rows of every feature map and then tokens. The rules of the operators decide; no model
is known by name.
"""

from __future__ import annotations

from collections.abc import Mapping

from edgeflow.graph.forms import forms_of
from edgeflow.graph.ir import Operator
from edgeflow.planner.analysis.whole import WholeGraph
from edgeflow.sharding.cut import Cut
from edgeflow.sharding.region import Interval, Region
from edgeflow.sharding.rules import contraction_size, rule_of
from edgeflow.sharding.rules.base import BARRIER

#: A label starts at an operator without labelled inputs only if it has this share of the FLOPs: splitting the
#: few numbers behind a global pool would cost a synchronisation and save nothing.
_MIN_START_SHARE = 1e-3
#: A half that costs more than this share of the whole does not count as a half.
_MOST_OF_HALF = 0.75

#: Tensor -> the dim along which it is split.
Labels = Mapping[str, int]


class Carrier:
    """Carries labels from the inputs of operators to their outputs."""

    def __init__(self, whole: WholeGraph) -> None:
        self._whole = whole
        self._graph = whole.graph
        #: Operators of one form with labels in the same places carry them alike.
        self._carried: dict[object, int | None] = {}

    def labellings(self) -> tuple[Labels, ...]:
        """Return the labels from each dim of each input, those that split the most FLOPs first."""
        found: list[tuple[float, int, Labels]] = []
        for name in self._graph.inputs:
            for dim, size in enumerate(self._graph.specs[name].shape):
                if size > 1:
                    labels = self._carry({name: dim}, may_start=False)
                    split = sum(
                        self._whole.flops[op.name]
                        for op in self._graph.operators
                        if op.first_output in labels
                    )
                    found.append(
                        (-split / self._whole.total_flops, dim, self._carry({name: dim}, may_start=True))
                    )
        found.sort(key=lambda item: (round(item[0], 6), item[1]))
        return tuple(labels for _, _, labels in found)

    def _carry(self, seeds: Labels, *, may_start: bool) -> Labels:
        """Carry labels from inputs to results.

        Args:
            may_start: Heavy operators without labelled inputs start a label of their own.
        """
        labels = dict(seeds)
        for op in self._graph.operators:
            if rule_of(op) is BARRIER:
                continue
            arriving = [name for name in op.inputs if name in labels]
            starts = (
                may_start
                and self._whole.flops[op.name] >= _MIN_START_SHARE * self._whole.total_flops
                and self._graph.activation_inputs(op)
            )
            if arriving or starts:
                dim = self.carried_dim(op, labels)
                if dim is not None:
                    labels.update(dict.fromkeys(op.used_outputs, dim))
        return labels

    def carried_dim(self, op: Operator, labels: Labels) -> int | None:
        """Return the output dim whose half reads the most labelled inputs in part, or None.

        Half of the channels of a concatenation reads one of its inputs whole, half of the rows reads half of
        each. Among equals, the dim whose half reads the fewest elements.
        """
        first, _ = forms_of(self._graph).of(op)
        question = first.name, tuple([labels.get(name) for name in op.inputs])
        if question not in self._carried:
            self._carried[question] = self._find_carried(op, labels)
        return self._carried[question]

    def _find_carried(self, op: Operator, labels: Labels) -> int | None:
        region = self._whole.full(op.first_output)
        best: tuple[tuple[int, float], int] | None = None
        for dim, interval in enumerate(region.intervals):
            if interval.length < 2:
                continue
            half = self._whole.cutter.cut(op, region.replace(dim, Interval(0, interval.length // 2)))
            saved = self._saved(op, half, labels)
            if saved[1] > 0 and (best is None or saved > best[0]):
                best = (saved, dim)
        return self._spanned_dim(op, labels) if best is None else best[1]

    def _saved(self, op: Operator, half: Cut, labels: Labels) -> tuple[int, float]:
        """Return how many labelled inputs a half reads in part, and how many elements fewer than the whole.

        Without labelled inputs, inputs read in part count along any dim, unless a weight matrix is read in
        part too: that is a split of channels, not of positions.
        """
        specs = self._graph.specs
        whole, part = self._whole.whole(op).needs, half.needs
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
        """Return the labelled dim of an input if windows are so long that each reads all of it, or None.

        With a window of seven rows on a map of four, every output row reads every input row; half of the
        output rows is half of the work nevertheless.
        """
        region = self._whole.full(op.first_output)
        for name in self._graph.activation_inputs(op):
            dim = labels.get(name)
            if dim is None or self._graph.specs[name].ndim != len(region) or region[dim].length < 2:
                continue
            half = self._whole.cutter.cut(op, region.replace(dim, Interval(0, region[dim].length // 2)))
            is_half = half.flops <= _MOST_OF_HALF * self._whole.flops[op.name]
            if is_half and half.region != region and not self._shrinks_matrix(op, half):
                return dim
        return None

    def _shrinks_matrix(self, op: Operator, half: Cut) -> bool:
        """Whether a half reads less of a weight of several dims."""
        whole, part = self._whole.whole(op).needs, half.needs
        return any(
            name in self._graph.weights and self._graph.specs[name].ndim > 1 and part.get(name) != whole[name]
            for name in whole
        )

    def sums_along(self, op: Operator, labels: Labels) -> bool:
        """Whether ``op`` can make partial sums over the labelled dim of its input."""
        size = contraction_size(op, self._graph.specs)
        if size is None or size < 2:
            return False
        half = self._whole.cutter.cut(op, self._whole.full(op.output), Interval(0, size // 2))
        read = [item for item in half.slices if item.tensor in labels]
        return bool(read) and all(
            # Another dim may happen to be as long as half of the summed-over one.
            self._graph.specs[item.tensor].shape[labels[item.tensor]] == size
            and item.region[labels[item.tensor]] == Interval(0, size // 2)
            for item in read
        )


def _length(region: Region | None, dim: int) -> int:
    return 0 if region is None else region[dim].length
