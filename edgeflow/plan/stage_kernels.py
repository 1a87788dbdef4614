"""From one shard of a stage to its kernels: needs are propagated backwards through the stage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final

import msgspec

from edgeflow.dtypes import bytes_of
from edgeflow.errors import InvalidPlanError
from edgeflow.graph.forms import forms_of
from edgeflow.graph.ir import ModelGraph, Operator
from edgeflow.plan.program import Kernel, WeightSlice
from edgeflow.plan.stage import Shard, Stage
from edgeflow.sharding.cut import Cut, Slice, renamed
from edgeflow.sharding.cutter import cutter_of
from edgeflow.sharding.region import Interval, Region
from edgeflow.sharding.rules import rule_of


class StageKernels(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The work of one device in one stage.

    Attributes:
        kernels: In topological order.
        needs: (tensor, region) of the activations that are read from outside of the stage.
        outputs: (tensor, region) that is kept, in the order of the shard's pieces. The region contains that
            of the piece, and equals it where the tensor has several pieces.
        weights: Slices of weights that are read.
        peak_bytes: Most bytes of tensors made inside the stage that are alive at once.
    """

    kernels: tuple[Kernel, ...]
    needs: tuple[tuple[str, Region], ...]
    outputs: tuple[tuple[str, Region], ...]
    weights: tuple[WeightSlice, ...]
    peak_bytes: int

    @property
    def flops(self) -> int:
        return sum(kernel.flops for kernel in self.kernels)


def stage_kernels(graph: ModelGraph, stage: Stage, shard: Shard) -> StageKernels:
    """Propagate the shard's regions backwards through the stage's operators.

    Where two consumers need different regions of a tensor, their hull is made once. Recomputed halos follow
    from this rule through several convolutions. Answers are remembered, since planning weighs many plans
    that differ in a few stages.

    Raises:
        InvalidPlanError: If the shard names a tensor that the stage does not make, or an operator of the
            stage reads a partial sum.
    """
    known = graph.remembered(_Known)
    key = (stage.operators, shard.outputs)
    found = known.answers.get(key)
    if found is None:
        found = _propagate(graph, stage, shard, known)
        known.keep(key, found)
    return found


class _Local(msgspec.Struct, frozen=True, gc=False):
    """One operator's kernel for one region, with the activations and slices of weights that it reads."""

    kernel: Kernel
    activations: tuple[tuple[str, Region], ...]
    weights: tuple[WeightSlice, ...]


class _Known:
    """Remembered answers for one graph; all are dropped when they hold too many kernels."""

    def __init__(self, graph: ModelGraph) -> None:
        self._graph = graph
        self._forms = forms_of(graph)
        self.answers: dict[object, StageKernels] = {}
        self._locals: dict[tuple[str, Region, Interval | None], _Local] = {}
        self._num_kernels = 0

    def keep(self, key: object, answer: StageKernels) -> None:
        self._num_kernels += len(answer.kernels) + 1
        if self._num_kernels > _MAX_KNOWN_KERNELS:
            self.answers.clear()
            self._locals.clear()
            self._num_kernels = len(answer.kernels) + 1
        self.answers[key] = answer

    def local(self, op: Operator, region: Region, contraction: Interval | None) -> _Local:
        key = (op.name, region, contraction)
        found = self._locals.get(key)
        if found is None:
            first, names = self._forms.of(op)
            if names is None:
                found = _local(self._graph, op, cutter_of(self._graph).cut(op, region, contraction))
            else:
                found = _like(self.local(first, region, contraction), op, names)
            self._locals[key] = found
        return found


_MAX_KNOWN_KERNELS: Final = 200_000


def _propagate(graph: ModelGraph, stage: Stage, shard: Shard, known: _Known) -> StageKernels:
    operators = [graph.by_name[name] for name in stage.operators]
    made_here = {name for op in operators for name in op.used_outputs}
    wanted: dict[str, Region] = {}
    for name, piece in shard.outputs:
        if name not in made_here:
            raise InvalidPlanError(f"stage {stage.name!r} does not make {name!r}")
        _want(wanted, name, piece.region)
    partial = {name for name, piece in shard.outputs if piece.contraction is not None}
    found: list[tuple[Operator, _Local]] = []
    for op in reversed(operators):
        asked = [name for name in op.outputs if name in wanted]
        if not asked:
            continue
        piece_asked = shard.piece(asked[0])
        contraction = piece_asked.contraction if piece_asked is not None else None
        local = known.local(op, _asked_region(graph, op, wanted, asked), contraction)
        found.append((op, local))
        for name, region in local.activations:
            _want(wanted, name, region)
            if name in partial:
                raise InvalidPlanError(
                    f"stage {stage.name!r} reads {name!r}, which it makes as a partial sum; "
                    "partial sums are added between stages"
                )
    found.reverse()
    made = {name: region for _, local in found for name, region in local.kernel.outputs}
    counts = Counter(name for name, _ in shard.outputs)
    return StageKernels(
        kernels=tuple([local.kernel for _, local in found]),
        needs=tuple([(name, region) for name, region in sorted(wanted.items()) if name not in made_here]),
        outputs=tuple(
            [(name, made[name] if counts[name] == 1 else piece.region) for name, piece in shard.outputs]
        ),
        weights=tuple(dict.fromkeys(item for _, local in reversed(found) for item in local.weights)),
        peak_bytes=_peak_bytes(graph, found, {name for name, _ in shard.outputs}),
    )


def _want(wanted: dict[str, Region], tensor: str, region: Region) -> None:
    known = wanted.get(tensor)
    wanted[tensor] = region if known is None or known == region else known.hull(region)


def _asked_region(graph: ModelGraph, op: Operator, wanted: dict[str, Region], asked: list[str]) -> Region:
    region = wanted[asked[0]]
    if len(op.outputs) > 1 and not rule_of(op).is_joint:
        # All outputs are made whole; their rule is asked for the region of the first one.
        return Region.full(graph.specs[op.first_output].shape)
    for name in asked[1:]:
        region = region.hull(wanted[name])
    return region


def _local(graph: ModelGraph, op: Operator, cut: Cut) -> _Local:
    slices = cut.slices
    weights = dict.fromkeys(
        WeightSlice(item.tensor, item.region, graph.specs[item.tensor].dtype)
        for item in slices
        if item.tensor in graph.weights
    )
    activations = [(item.tensor, item.region) for item in slices if item.tensor not in graph.weights]
    outputs = _outputs(graph, op, cut)
    kernel = Kernel(
        operator=op.name,
        steps=cut.steps,
        outputs=outputs,
        flops=cut.flops,
        num_bytes=_traffic(graph, op, slices, outputs),
        dtypes=_dtypes(graph, slices, outputs),
    )
    return _Local(kernel, tuple(activations), tuple(weights))


def _like(local: _Local, op: Operator, names: Mapping[str, str]) -> _Local:
    """Return the same kernel for an operator of the same form, whose tensors have other names."""
    kernel = local.kernel
    return _Local(
        Kernel(
            operator=op.name,
            steps=renamed(kernel.steps, names),
            outputs=tuple([(names[name], region) for name, region in kernel.outputs]),
            flops=kernel.flops,
            num_bytes=kernel.num_bytes,
            dtypes=tuple([(names[name], dtype) for name, dtype in kernel.dtypes]),
        ),
        tuple([(names[name], region) for name, region in local.activations]),
        tuple([WeightSlice(names[item.tensor], item.region, item.dtype) for item in local.weights]),
    )


def _outputs(graph: ModelGraph, op: Operator, cut: Cut) -> tuple[tuple[str, Region], ...]:
    if len(op.outputs) == 1 or rule_of(op).is_joint:
        return tuple((name, cut.region) for name in op.outputs)
    return tuple((name, Region.full(graph.specs[name].shape) if name else cut.region) for name in op.outputs)


def _traffic(
    graph: ModelGraph, op: Operator, slices: tuple[Slice, ...], outputs: tuple[tuple[str, Region], ...]
) -> int:
    """Return the bytes that a kernel reads and writes."""
    rule = rule_of(op)
    if rule.is_view:
        return 0
    written = sum(bytes_of(region.num_elements, graph.specs[name].dtype) for name, region in outputs if name)
    if rule.is_lookup:
        return 2 * written
    return written + sum(
        bytes_of(item.region.num_elements, graph.specs[item.tensor].dtype) for item in slices
    )


#: Dtypes of kernels in single precision: their values, indices and masks.
_SINGLE: Final = frozenset({"float32", "int64", "int32", "bool"})


def _dtypes(
    graph: ModelGraph, slices: tuple[Slice, ...], outputs: tuple[tuple[str, Region], ...]
) -> tuple[tuple[str, str], ...]:
    """Return `Kernel.dtypes`."""
    names = dict.fromkeys([item.tensor for item in slices] + [name for name, _ in outputs if name])
    dtypes = [(name, graph.specs[name].dtype) for name in names]
    if all(dtype in _SINGLE for _, dtype in dtypes):
        return ()
    return tuple([(name, dtype) for name, dtype in dtypes if dtype != "float32"])


def _peak_bytes(graph: ModelGraph, made: list[tuple[Operator, _Local]], kept: set[str]) -> int:
    """Return the most bytes alive at once when each tensor is freed after its last reader."""
    last_use = {name: index for index, (op, _) in enumerate(made) for name in op.inputs}
    alive = peak = 0
    sizes: dict[str, int] = {}  # of the tensors that are alive
    for index, (op, local) in enumerate(made):
        for name, region in local.kernel.outputs:
            if name:
                sizes[name] = region.num_elements * graph.specs[name].itemsize
                alive += sizes[name]
        peak = max(peak, alive)
        for name in op.inputs:
            if name in sizes and last_use[name] == index and name not in kept:
                alive -= sizes.pop(name)
    return peak
