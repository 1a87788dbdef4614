"""Stages of a stretch that is cut along a dim of its inputs: rows, columns, tokens, or a grid of two."""

from __future__ import annotations

from collections.abc import Container, Sequence

from edgeflow.graph.ir import Operator
from edgeflow.plan.stage import Piece
from edgeflow.planner.analysis import Analysis, Labels
from edgeflow.planner.layouts.layout import Draft, Layout, drafts_by_level
from edgeflow.planner.layouts.levels import Owned, levels
from edgeflow.planner.layouts.partition import Partition, grid_partition, rows_partition
from edgeflow.sharding.region import Region


def rows_drafts(analysis: Analysis, operators: Sequence[Operator], layout: Layout) -> list[Draft]:
    """Return the stages of a ``rows`` layout."""
    labels = labels_of(analysis, layout.labelling)
    if layout.across is None:
        partition = rows_partition(labels, layout.devices, layout.shares)
    else:
        across = labels_of(analysis, layout.across)
        partition = grid_partition(labels, across, layout.devices, layout.shares, layout.bands)
    fastest = layout.devices[max(range(len(layout.devices)), key=lambda i: (layout.shares[i], -i))]
    owned = owned_rows(analysis, operators, labels, partition, layout.devices, rest=fastest)
    return drafts_of_rows(analysis, operators, owned, recomputed=() if layout.exchange else labels)


def labels_of(analysis: Analysis, labelling: int) -> Labels:
    return analysis.labellings[labelling] if analysis.labellings else {}


def drafts_of_rows(
    analysis: Analysis, operators: Sequence[Operator], owned: Owned, *, recomputed: Container[str] = ()
) -> list[Draft]:
    """Return the drafts of a stretch, given what each device owns."""
    found = levels(analysis, operators, owned, recomputed=recomputed)
    return drafts_by_level(operators, found, owned, kind=lambda members: "rows")


def owned_rows(
    analysis: Analysis,
    operators: Sequence[Operator],
    labels: Labels,
    partition: Partition,
    devices: Sequence[int],
    *,
    rest: int,
) -> Owned:
    """Return what each device owns of every tensor of the stretch.

    Labelled tensors are divided by ``partition``; sums over a labelled dim become partial sums; every device
    computes what labelled operators depend on; the device ``rest`` computes the remaining tensors.
    """
    feeding = feeding_labelled(analysis, operators, labels)
    owned: dict[int, dict[str, Piece]] = {device: {} for device in devices}
    for op in operators:
        for name in op.used_outputs:
            full = analysis.full(name)
            boxes = partition(name, full)
            sums = None if boxes is not None else _partial_sums(analysis, op, full, labels, partition)
            if boxes is not None:
                for device, box in boxes.items():
                    owned[device][name] = Piece(box)
            elif sums is not None:
                for device, piece in sums.items():
                    owned[device][name] = piece
            elif op.name in feeding:
                for device in devices:
                    owned[device][name] = Piece(full)
            else:
                owned[rest][name] = Piece(full)
    return owned


def _partial_sums(
    analysis: Analysis, op: Operator, full: Region, labels: Labels, partition: Partition
) -> dict[int, Piece] | None:
    """Return device -> its partial sum over the labelled dim; None if ``op`` does not sum over it.

    A device of a grid holds a part of two dims, but a partial sum covers a part of only one.
    """
    if not analysis.sums_along(op, labels):
        return None
    source = next(name for name in op.inputs if name in labels)
    whole, dim = analysis.full(source), labels[source]
    boxes = partition(source, whole)
    if boxes is None or any(box.replace(dim, whole[dim]) != whole for box in boxes.values()):
        return None
    if len(boxes) == 1:  # nothing to add
        return {device: Piece(full) for device in boxes}
    return {device: Piece(full, box[dim]) for device, box in boxes.items()}


def feeding_labelled(analysis: Analysis, operators: Sequence[Operator], labels: Labels) -> set[str]:
    """Return the unlabelled operators on which labelled ones depend: every device needs them."""
    wanted: set[str] = set()
    feeding: set[str] = set()
    for op in reversed(operators):
        if op.first_output in labels or any(name in wanted for name in op.outputs):
            if op.first_output not in labels:
                feeding.add(op.name)
            wanted.update(name for name in op.inputs if name not in labels)
    return feeding
