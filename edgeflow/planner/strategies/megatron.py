"""Megatron-LM: heads and hidden columns over devices, one sum after attention and one after the MLP.

Here with *unequal* shares, in whole heads (whole groups of heads where they share keys and values), and found
by the rules of the operators: wherever an interval of a summed-over dim can be carried back to
    column-parallel
products. Shares follow how fast a device is at the model, as far as its memory allows. Stretches without such
a pair run on the fastest device.

References:
    Shoeybi et al., "Megatron-LM: Training Multi-Billion Parameter Language Models Using Model Parallelism",
    arXiv:1909.08053, 2019.
"""

from __future__ import annotations

from collections.abc import Sequence

from edgeflow.errors import InfeasiblePlanError
from edgeflow.graph.ir import Operator
from edgeflow.plan.lower import lower
from edgeflow.plan.plan import Plan
from edgeflow.plan.stage import Stage
from edgeflow.plan.verify import memory_bytes
from edgeflow.planner.layouts.layout import Layout, Reduce
from edgeflow.planner.task import Run, Task, finish, stages_of


def megatron(task: Task) -> Plan:
    """Return the tensor-parallel plan on all devices.

    Raises:
        InfeasiblePlanError: If the devices' memory does not hold the model however it is shared out.
    """
    return tensor_parallel(task, reduce="direct", strategy="megatron", label="megatron tensor-parallel")


def has_pairs(task: Task, stretch: tuple[Operator, ...]) -> bool:
    """Whether a column-parallel product and a row-parallel one stand together in the stretch."""
    inside = {op.name for op in stretch}
    return any(
        len(group.operators) > 1 and not group.has_spatial_kernel and inside.issuperset(group.operators)
        for group in task.analysis.groups
    )


def tensor_parallel(task: Task, *, reduce: Reduce, strategy: str, label: str) -> Plan:
    """Run stretches with pairs tensor-parallel on all devices, the others on the fastest one.

    A device that its share does not fit hands the excess to those with room, in proportion to their speed; so
    often as there are devices.

    Raises:
        InfeasiblePlanError: If that does not help.
    """
    shares = task.speeds
    for attempt in range(len(shares) + 1):
        stages = stages_of(task, _runs(task, shares, reduce))
        try:
            return finish(task, stages, strategy=strategy, label=f"{label} on {where(stages)}")
        except InfeasiblePlanError as error:
            if error.constraint != "memory" or attempt == len(shares):
                raise
            required = memory_bytes(lower(task.graph, task.cluster, stages))
            moved = _rebalanced(task, shares, required)
            if moved is None:
                raise
            shares = moved
    raise AssertionError("the last attempt returns or raises")


def where(stages: Sequence[Stage]) -> str:
    """Say how many devices take part."""
    count = len({shard.device for stage in stages for shard in stage.shards})
    return "one device" if count == 1 else f"{count} devices"


def _runs(task: Task, shares: Sequence[float], reduce: Reduce) -> list[Run]:
    devices = tuple(task.cluster.ranks)
    alone = Layout(kind="single", devices=(task.fastest[0],))
    together = Layout(kind="tensor", devices=devices, shares=tuple(shares), reduce=reduce)
    return [
        Run(stretch, together if len(devices) > 1 and has_pairs(task, stretch) else alone)
        for stretch in task.analysis.stretches
    ]


def _rebalanced(task: Task, shares: Sequence[float], required: dict[int, int]) -> tuple[float, ...] | None:
    """Shares with what exceeds a device's memory moved to others; None where nobody has room."""
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
