"""Pairs of a column-parallel and a row-parallel product: attention and MLP of Transformer blocks.

Pairs are groups of `edgeflow.planner.analysis.groups`, found by the operators' rules. Published strategies
split the stretches with pairs over all devices and run the other stretches on the fastest device.
"""

from __future__ import annotations

from collections.abc import Sequence

from edgeflow.errors import InfeasiblePlanError
from edgeflow.graph.ir import Operator
from edgeflow.plan.lower import lower
from edgeflow.plan.plan import Plan
from edgeflow.plan.verify import memory_bytes
from edgeflow.planner.analysis import Analysis
from edgeflow.planner.layouts.layout import Layout, Reduce, num_devices_text
from edgeflow.planner.task import Run, Task, finish, stages_of


def has_pairs(analysis: Analysis, stretch: Sequence[Operator]) -> bool:
    """Return whether the stretch contains a column-parallel product followed by a row-parallel one."""
    inside = {op.name for op in stretch}
    return any(
        len(group.operators) > 1 and not group.has_spatial_kernel and inside.issuperset(group.operators)
        for group in analysis.groups
    )


def runs_with_pairs(task: Task, together: Layout | None) -> list[Run]:
    """Return the stretches with pairs in layout ``together``, the others on the fastest device.

    Args:
        together: None: all stretches run on the fastest device.
    """
    alone = Layout(kind="single", devices=(task.fastest[0],))
    return [
        Run(stretch, together if together is not None and has_pairs(task.analysis, stretch) else alone)
        for stretch in task.analysis.stretches
    ]


def tensor_parallel(task: Task, *, reduce: Reduce, strategy: str, label: str) -> Plan:
    """Run stretches with pairs tensor-parallel on all devices, the others on the fastest one.

    A device whose memory its share exceeds hands the excess to devices with room, in proportion to their
    speed; repeated at most once per device.

    Raises:
        InfeasiblePlanError: If no shares fit the devices' memory.
    """
    shares = task.speeds
    for attempt in range(len(shares) + 1):
        stages = stages_of(task, runs_with_pairs(task, _together(task, shares, reduce)))
        try:
            return finish(task, stages, strategy=strategy, label=f"{label} on {num_devices_text(stages)}")
        except InfeasiblePlanError as error:
            if error.constraint != "memory" or attempt == len(shares):
                raise
            required = memory_bytes(lower(task.graph, task.cluster, stages))
            moved = _rebalanced(task, shares, required)
            if moved is None:
                raise
            shares = moved
    raise AssertionError("the last attempt returns or raises")


def _together(task: Task, shares: Sequence[float], reduce: Reduce) -> Layout | None:
    devices = tuple(task.cluster.ranks)
    if len(devices) == 1:
        return None
    return Layout(kind="tensor", devices=devices, shares=tuple(shares), reduce=reduce)


def _rebalanced(task: Task, shares: Sequence[float], required: dict[int, int]) -> tuple[float, ...] | None:
    """Return shares with the excess of full devices moved to roomy ones; None if no device has room."""
    total = sum(shares)
    excess = 0.0
    kept = list(shares)
    roomy = []
    for rank, device in enumerate(task.cluster.devices):
        needed = required.get(rank, 0)
        if needed > device.memory_bytes:
            # A little more than in proportion: part of what is needed does not depend on the share.
            kept[rank] = max(0.0, shares[rank] * (1 - 1.1 * (needed - device.memory_bytes) / needed))
            excess += shares[rank] - kept[rank]
        elif needed < 0.95 * device.memory_bytes:
            roomy.append(rank)
    if not roomy or excess <= 1e-9 * total:
        return None
    speed = sum(task.speeds[rank] for rank in roomy)
    for rank in roomy:
        kept[rank] += excess * task.speeds[rank] / speed
    return tuple(kept)
