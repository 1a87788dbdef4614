"""Megatron-LM: heads and hidden columns over devices, one sum after attention and one after the MLP.

Here with *unequal* shares, in whole heads (whole groups of heads where they share keys and values), and found
by the rules of the operators: wherever an interval of a summed-over dim can be carried back to
column-parallel products. Shares follow how fast a device is at the model, as far as its memory allows.
Stretches without such a pair run on the fastest device.

References:
    Shoeybi et al., "Megatron-LM: Training Multi-Billion Parameter Language Models Using Model Parallelism",
    arXiv:1909.08053, 2019.
"""

from __future__ import annotations

from edgeflow.plan.plan import Plan
from edgeflow.planner.search.pairs import tensor_parallel
from edgeflow.planner.task import Task


def megatron(task: Task) -> Plan:
    """Return the tensor-parallel plan on all devices.

    Raises:
        InfeasiblePlanError: If the devices' memory does not hold the model however it is shared out.
    """
    return tensor_parallel(task, reduce="direct", strategy="megatron", label="megatron tensor-parallel")
