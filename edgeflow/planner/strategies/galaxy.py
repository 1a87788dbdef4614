"""Galaxy: heads and hidden columns in unequal shares, and between them everything by tokens.

The sums after attention and MLP are scattered over the tokens (reduce-scatter); residuals and norms run on
each device's own tokens; the next block gathers them. Shares of heads and columns follow how fast a device is
at the model; a device whose memory they do not fit hands what is too much to the others, in proportion to
their speed, until all fit. Stretches without such blocks run on the fastest device.

Left out: the overlap of communication and products tile by tile, and equal shares of the tokens, which the
paper's overlap needs and which here are in proportion to speed too.

References:
    Ye, Du, Zeng, Ou, Chu, Lu, Chen, "Galaxy: A Resource-Efficient Collaborative Edge AI System for In-situ
    Transformer Inference", INFOCOM 2024.
"""

from __future__ import annotations

from edgeflow.plan.plan import Plan
from edgeflow.planner.search.pairs import tensor_parallel
from edgeflow.planner.task import Task


def galaxy(task: Task) -> Plan:
    """Return the plan of tensor and sequence parallelism on all devices.

    Raises:
        InfeasiblePlanError: If the devices' memory does not hold the model however it is shared out.
    """
    label = "galaxy tensor- and sequence-parallel"
    return tensor_parallel(task, reduce="scatter", strategy="galaxy", label=label)
