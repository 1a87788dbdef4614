"""CoEdge: one row split for the whole CNN, in proportion to speed, neighbours exchanging halos.

Rows for everything up to the last convolution or pool; the rest runs on the fastest device after an
aggregation, as in the paper. A device whose strip would be thinner than the padding of some convolution is
left out (the paper's padding principle). Shares are proportional to speed; the paper's linear programme for
energy under a deadline is not in this version.

References:
    Zeng, Chen, Zhou, Zhang, "CoEdge: Cooperative DNN Inference With Adaptive Workload Partitioning Over
    Heterogeneous Edge Devices", IEEE/ACM Transactions on Networking 29(2), 2021.
"""

from __future__ import annotations

from edgeflow.graph.ir import Operator
from edgeflow.plan.plan import Plan
from edgeflow.planner.layout import Layout
from edgeflow.planner.strategy import Run, Task, finish_runs
from edgeflow.sharding.region import split_interval


def coedge(task: Task) -> Plan:
    """Return the row-split plan.

    Raises:
        InfeasiblePlanError: If a device cannot hold its part.
    """
    operators = task.graph.operators
    end = _end_of_cnn(task)
    devices = _thick_enough(task, operators[:end])
    label = f"coedge rows on {len(devices)} devices"
    rest = Layout(kind="single", devices=(task.fastest[0],))
    runs = [Run(operators[end:], rest)] if end < len(operators) else []
    if end:
        shares = tuple(task.speeds[rank] for rank in devices)
        layout = Layout(kind="rows", devices=devices, shares=shares)
        runs.insert(0, Run(operators[:end], layout if len(devices) > 1 else rest))
    return finish_runs(task, runs, strategy="coedge", label=label)


def is_windowed(op: Operator) -> bool:
    """Whether the operator slides a window over positions."""
    return ".conv" in op.target or "pool" in op.target


def _end_of_cnn(task: Task) -> int:
    """Number of operators up to the last labelled one that slides a window, and what it is summed by."""
    labels = task.analysis.labels
    end = 0
    for index, op in enumerate(task.graph.operators):
        split = op.outputs[0] in labels or task.analysis.sums_along(op, labels)
        if is_windowed(op) and split:
            end = index + 1
    return end


def _thick_enough(task: Task, operators: tuple[Operator, ...]) -> tuple[int, ...]:
    """Drop the slowest devices until every strip is at least as thick as the padding of its convolutions."""
    labels = task.analysis.labels
    limits: dict[int, int] = {}
    for op in operators:
        if is_windowed(op) and op.outputs[0] in labels:
            dim = labels[op.outputs[0]] - 2
            paddings = dict(op.arguments).get("padding", ())
            padding = paddings[dim % len(paddings)] if isinstance(paddings, tuple) and paddings else 0
            size = task.graph.specs[op.outputs[0]].shape[labels[op.outputs[0]]]
            limits[size] = max(limits.get(size, 1), int(padding or 0))  # type: ignore[arg-type]
    devices = list(task.fastest)
    while len(devices) > 1:
        shares = [task.speeds[rank] for rank in sorted(devices)]
        if all(
            interval.length >= limit
            for size, limit in limits.items()
            for interval in split_interval(size, shares)
        ):
            break
        devices.pop()
    return tuple(sorted(devices))
