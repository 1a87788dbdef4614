"""Megatron-LM: heads and hidden columns over devices, one sum after attention and one after the MLP.

Here with *unequal* shares, in whole heads (whole groups of heads where they share keys and values), and
found by the rules of the operators: wherever an interval of a summed-over dim can be carried back to
column-parallel products. Stretches without such a pair run on the fastest device.

References:
    Shoeybi et al., "Megatron-LM: Training Multi-Billion Parameter Language Models Using Model Parallelism",
    arXiv:1909.08053, 2019.
"""

from __future__ import annotations

from edgeflow.graph.ir import Operator
from edgeflow.plan.plan import Plan
from edgeflow.planner.layout import Layout
from edgeflow.planner.strategy import Run, Task, finish_runs


def megatron(task: Task) -> Plan:
    """Return the tensor-parallel plan on all devices.

    Raises:
        InfeasiblePlanError: If a device cannot hold its part.
    """
    devices = tuple(task.cluster.ranks)
    alone = Layout(kind="single", devices=(task.fastest[0],))
    together = Layout(kind="tensor", devices=devices, shares=task.speeds) if len(devices) > 1 else alone
    runs = [
        Run(stretch, together if has_pairs(task, stretch) else alone) for stretch in task.analysis.stretches
    ]
    return finish_runs(
        task, runs, strategy="megatron", label=f"megatron tensor-parallel on {len(devices)} devices"
    )


def has_pairs(task: Task, stretch: tuple[Operator, ...]) -> bool:
    """Whether a column-parallel product and a row-parallel one stand together in the stretch."""
    inside = {op.name for op in stretch}
    return any(
        len(group.operators) > 1 and not group.has_spatial_kernel and inside.issuperset(group.operators)
        for group in task.analysis.groups
    )
