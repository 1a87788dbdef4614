"""Voltage: Transformer blocks by positions, all weights on every device, one all-gather per block.

Each device makes its own output positions of a block and, within it, whatever it needs of the others' (keys
and values are computed on every device). What lies outside of Transformer blocks runs on the fastest device.
Left out: the order of the products of queries, keys and inputs is not changed, so the paper's saving of
redundant keys and values is not there.

References:
    Hu, Li, "When the Edge Meets Transformers: Distributed Inference with Transformer Models", ICDCS 2024.
"""

from __future__ import annotations

from edgeflow.plan.plan import Plan
from edgeflow.planner.layouts.layout import Layout, num_devices_text
from edgeflow.planner.search.pairs import runs_with_pairs
from edgeflow.planner.task import Task, finish, stages_of


def voltage(task: Task) -> Plan:
    """Return the plan that splits blocks by positions on all devices.

    Raises:
        InfeasiblePlanError: If a device cannot hold all weights of the blocks.
    """
    devices = tuple(task.cluster.ranks)
    by_positions = None
    if len(devices) > 1 and task.analysis.labels:
        by_positions = Layout(kind="rows", devices=devices, shares=task.speeds, exchange=False)
    stages = stages_of(task, runs_with_pairs(task, by_positions))
    label = f"voltage positions on {num_devices_text(stages)}"
    return finish(task, stages, strategy="voltage", label=label)
