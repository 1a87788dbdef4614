"""A lower bound of every plan's predicted latency: the least that computation takes, without transfers.

Two bounds, of which the larger counts. *Load*: operators may be divided at will between devices that are
never idle; a linear programme. *Path*: on the longest chain of operators each is divided over all devices at
once. Both suppose that a part of an operator costs at least its part of the whole operator's time on that
device, which holds for rooflines and profiles (costs that are sums of terms which grow with the work). Where
runs of operators were measured, each operator counts with the least that it takes beside any neighbours.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgeflow.cost.model import CostModel
from edgeflow.graph.ir import ModelGraph
from edgeflow.planner.task import Task, whole_kernels


def lower_bound_s(task: Task) -> float:
    """Return the bound in seconds; 0 for a graph without operators.

    O(operators x devices), and the linear programme.
    """
    times = {name: seconds for name, seconds in _times(task.graph, task.cost).items() if min(seconds) > 0}
    if not times:
        return 0.0
    return max(_path_s(task.graph, times), _load_s(np.array(list(times.values()))))


def _times(graph: ModelGraph, cost: CostModel) -> Mapping[str, list[float]]:
    """Operator -> the least seconds of the whole of it on each device."""
    least = cost.measured_runs.least if cost.measured_runs is not None else {}
    return {
        kernel.operator: [
            cost.kernel_s(rank, kernel, factor=least.get(kernel.operator, 1.0)) for rank in cost.cluster.ranks
        ]
        for kernel in whole_kernels(graph)
    }


def _path_s(graph: ModelGraph, times: Mapping[str, list[float]]) -> float:
    done: dict[str, float] = {}
    for op in graph.operators:
        start = max((done.get(name, 0.0) for name in op.inputs), default=0.0)
        together = 1 / sum(1 / item for item in times[op.name]) if op.name in times else 0.0
        done.update(dict.fromkeys(op.outputs, start + together))
    return max(done.values(), default=0.0)


def _load_s(times: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> float:
    """The least time of the busiest device when work is divided at will: unrelated machines, divisible."""
    from scipy.optimize import linprog

    # Operators with the same ratios between devices are one: rooflines make a handful out of hundreds.
    ratios = np.round(times / np.maximum(times[:, :1], 1e-30), 9)
    _, index = np.unique(ratios, axis=0, return_inverse=True)
    merged = np.zeros((int(index.max()) + 1, times.shape[1]))
    np.add.at(merged, index.reshape(-1), times)
    num_kinds, num_devices = merged.shape
    loads = np.zeros((num_devices, num_kinds * num_devices + 1))
    for rank in range(num_devices):
        loads[rank, rank:-1:num_devices] = merged[:, rank]
    loads[:, -1] = -1.0
    whole = np.zeros((num_kinds, num_kinds * num_devices + 1))
    for kind in range(num_kinds):
        whole[kind, kind * num_devices : (kind + 1) * num_devices] = 1.0
    objective = np.zeros(num_kinds * num_devices + 1)
    objective[-1] = 1.0
    solved = linprog(
        objective, A_ub=loads, b_ub=np.zeros(num_devices), A_eq=whole, b_eq=np.ones(num_kinds), method="highs"
    )
    assert solved.success, solved.message
    return float(solved.fun)
