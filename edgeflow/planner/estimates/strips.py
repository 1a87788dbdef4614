"""Operators by strip, in arrays: what a strip of the result reads, and how long computing it takes.

A search weighs strips by the ten thousand; asking the rules about each would be slow. Here a rule is asked
about a few, and the rest follows:

* what positions ``[a, b)`` of a result read is what position ``a`` and position ``b - 1`` read, and what lies
  between; if a few probed positions fit a window of constant stride, all positions are taken to fit it;
* seconds are those of real cuts of 1, 2, 4, ... positions and of all of them, and linear in between.

Seconds are those of operators alone; `edgeflow.cost.runs` has factors for operators that run
together. Estimates only: plans are checked, lowered and predicted from the cuts themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from edgeflow.cost.model import CostModel
from edgeflow.graph.forms import forms_of
from edgeflow.graph.ir import Operator
from edgeflow.plan.program import Kernel
from edgeflow.plan.stage import Piece, Shard, Stage
from edgeflow.plan.stage_kernels import stage_kernels
from edgeflow.planner.analysis import Analysis, Labels
from edgeflow.planner.estimates.arrays import Floats, Ints
from edgeflow.sharding.region import Interval


class Reads(msgspec.Struct, frozen=True):
    """What an operator reads of one labelled tensor.

    Attributes:
        tensor: Its name.
        length: Its positions.
        first, stop: Position p of the result reads positions ``[first[p], stop[p])``.
    """

    tensor: str
    length: int
    first: Ints
    stop: Ints

    @property
    def has_halo(self) -> bool:
        """Whether some position reads other positions of the tensor than its own."""
        count = len(self.first)
        return self.length != count or not (
            np.array_equal(self.first, np.arange(count))
            and np.array_equal(self.stop, np.arange(1, count + 1))
        )


class Strips(msgspec.Struct, frozen=True, kw_only=True):
    """One operator, by the strip that is made.

    Attributes:
        size: Positions of its result along the label; of a sum, those that are summed over; else 1.
        reads: What is read of labelled activations.
        whole: Activations without a label, which every strip reads whole.
        seconds: ``[rank, n]``: seconds of computing n positions; 0 for n = 0.
        flops: FLOPs of all positions.
    """

    size: int
    reads: tuple[Reads, ...]
    whole: tuple[str, ...]
    seconds: Floats
    flops: int

    @property
    def has_halo(self) -> bool:
        return any(item.has_halo for item in self.reads)


class StripCosts:
    """`Strips` of the operators of a graph, made when asked for; operators of one form share them.

    Args:
        of_all: The strips of the whole cluster, if ``cost`` is that of a part of it.
        ranks: Ranks of the devices in the whole cluster.
    """

    def __init__(
        self,
        analysis: Analysis,
        cost: CostModel,
        labels: Labels,
        *,
        of_all: StripCosts | None = None,
        ranks: Sequence[int] = (),
    ) -> None:
        self.analysis = analysis
        self.cost = cost
        self.labels = labels
        self._of_all = of_all
        self._ranks = list(ranks)
        self._position_bytes: dict[str, float] = {}
        self._by_operator: dict[tuple[str, bool], Strips] = {}
        self._by_form: dict[tuple[object, bool], Strips] = {}

    def is_sum(self, op: Operator) -> bool:
        """Whether the operator sums over the labelled dim, and can do so in parts."""
        return op.first_output not in self.labels and self.analysis.sums_along(op, self.labels)

    def of(self, op: Operator, *, is_whole: bool = False) -> Strips:
        """Return an operator's strips; with ``is_whole``, as one strip even if it is a sum."""
        known = self._by_operator.get((op.name, is_whole))
        if known is None and self._of_all is not None:
            known = self._of_all.of(op, is_whole=is_whole)
            known = msgspec.structs.replace(known, seconds=known.seconds[self._ranks])
            self._by_operator[op.name, is_whole] = known
        if known is None:
            form = (self._form(op), is_whole)
            shared = self._by_form.get(form)
            if shared is None:
                shared = self._by_form[form] = self._measure(op, is_whole=is_whole)
            known = self._by_operator[op.name, is_whole] = self._renamed(shared, op)
        return known

    def position_bytes(self, tensor: str) -> float:
        """Return the bytes of one position of a labelled tensor, or of all of a tensor without label."""
        known = self._position_bytes.get(tensor)
        if known is None:
            spec = self.analysis.graph.specs[tensor]
            dim = self.labels.get(tensor)
            known = spec.num_bytes if dim is None else spec.num_bytes / spec.shape[dim]
            self._position_bytes[tensor] = known
        return known

    def _form(self, op: Operator) -> object:
        """Return what the strips of an operator depend on."""
        first, _ = forms_of(self.analysis.graph).of(op)
        labels = tuple(self.labels.get(name) for name in (*op.inputs, *op.outputs))
        # Measured operators are known by name.
        return first.name, labels, op.name if self.cost.measured else ""

    def _renamed(self, strips: Strips, op: Operator) -> Strips:
        """Strips keep the position of a tensor among the inputs as its name while they are shared."""
        names = list(dict.fromkeys(op.inputs))
        return msgspec.structs.replace(
            strips,
            reads=tuple(
                msgspec.structs.replace(item, tensor=names[int(item.tensor)]) for item in strips.reads
            ),
            whole=tuple(names[int(index)] for index in strips.whole),
        )

    def _measure(self, op: Operator, *, is_whole: bool) -> Strips:
        analysis, labels = self.analysis, self.labels
        name = op.first_output
        full, dim = analysis.full(name), labels.get(name)
        inputs = list(dict.fromkeys(op.inputs))
        activations = analysis.graph.activation_inputs(op)
        sources = [tensor for tensor in activations if tensor in labels]
        is_sum = not is_whole and dim is None and self.is_sum(op)
        size = 1
        if dim is not None:
            size = full[dim].length
        elif is_sum:
            size = analysis.full(sources[0])[labels[sources[0]]].length

        def piece(part: Interval) -> Piece:
            if dim is not None:
                return Piece(full.replace(dim, part))
            return Piece(full, part if is_sum else None)

        return Strips(
            size=size,
            reads=tuple(
                self._reads(op, piece, size, tensor, str(inputs.index(tensor))) for tensor in sources
            ),
            whole=tuple(str(inputs.index(tensor)) for tensor in activations if tensor not in labels),
            seconds=self._seconds(op, piece, size),
            flops=analysis.flops[op.name],
        )

    def _reads(
        self, op: Operator, piece: Callable[[Interval], Piece], size: int, tensor: str, name: str
    ) -> Reads:
        dim = self.labels[tensor]
        length = self.analysis.full(tensor)[dim].length

        def needs(position: int) -> tuple[int, int]:
            asked = piece(Interval(position, position + 1))
            found = self.analysis.cutter.cut(op, asked.region, asked.contraction).needs.get(tensor)
            return (0, 0) if found is None else (found[dim].start, found[dim].stop)

        window = _window(needs, size, length) or _each([needs(position) for position in range(size)], length)
        return Reads(name, length, *window)

    def _seconds(self, op: Operator, piece: Callable[[Interval], Piece], size: int) -> Floats:
        ranks = self.cost.cluster.ranks
        counts = sorted({min(size, 1 << power) for power in range(size.bit_length() + 1)})
        sampled = np.zeros((len(ranks), len(counts)))
        for index, count in enumerate(counts):
            start = (size - count) // 2
            kernel = self._kernel(op, piece(Interval(start, start + count)))
            sampled[:, index] = [self.cost.kernel_s(rank, kernel) for rank in ranks]
        seconds = np.zeros((len(ranks), size + 1))
        for rank in ranks:
            seconds[rank, 1:] = np.interp(np.arange(1, size + 1), counts, sampled[rank])
        return seconds

    def _kernel(self, op: Operator, piece: Piece) -> Kernel:
        stage = Stage(name=op.name, kind="", operators=(op.name,), shards=())
        (kernel,) = stage_kernels(self.analysis.graph, stage, Shard(0, ((op.first_output, piece),))).kernels
        return kernel


def _window(needs: Callable[[int], tuple[int, int]], size: int, length: int) -> tuple[Ints, Ints] | None:
    """First and stop by position for a window of constant stride, clipped; None if it is not one."""
    if size < 8:
        return None
    middle = size // 2
    (first, stop), (next_first, next_stop) = needs(middle), needs(middle + 1)
    stride = next_first - first
    if next_stop - stop != stride:
        return None
    steps = stride * (np.arange(size, dtype=np.int64) - middle)
    found = np.clip(first + steps, 0, length), np.clip(stop + steps, 0, length)
    probes = (0, 1, size // 4, size // 4 + 1, size // 3, 3 * size // 4, size - 2, size - 1)
    if any((found[0][p], found[1][p]) != needs(p) for p in probes):
        return None
    return found


def _each(needs: Sequence[tuple[int, int]], length: int) -> tuple[Ints, Ints]:
    """First and stop by position. A position that reads nothing (of several concatenated tensors, for
    instance) gets the stop of the one before it and the first of the one after it, so that strips around it
    are right."""
    firsts, stops = [0] * len(needs), [0] * len(needs)
    stop = 0
    for position, need in enumerate(needs):
        stop = stops[position] = need[1] if need[1] > need[0] else stop
    first = length
    for position, need in reversed(list(enumerate(needs))):
        first = firsts[position] = need[0] if need[1] > need[0] else first
    return np.array(firsts, dtype=np.int64), np.array(stops, dtype=np.int64)
