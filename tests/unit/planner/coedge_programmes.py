"""CoEdge's linear programmes of small layers, which tests of the search and the strategy share."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from edgeflow.cluster.cluster import Cluster, Device, Link
from edgeflow.cost import CostModel
from edgeflow.graph.ir import ModelGraph
from edgeflow.planner.analysis import analysis_of
from edgeflow.planner.objective import Objective
from edgeflow.planner.search.coedge_lp import Programme, Solution
from edgeflow.planner.task import Task
from tests.unit.planner.graphs import captured

#: For layers by hand: devices so slow that the host link of the source takes no time beside them.
SLOW = 1e-4


#: Watts, and FLOP/s: what is slower needs less for the same work.
UNEQUAL = ((10.0, 1e9), (3.0, 0.5e9), (1.0, 0.25e9))


def cluster_of(
    devices: Sequence[tuple[float, float]] = UNEQUAL,
    *,
    bandwidth: float = 1e15,
    memory: int = 1 << 30,
    scale: float = 1.0,
) -> Cluster:
    """Devices of some watts and FLOP/s, whose kernels take time by their FLOPs alone."""
    return Cluster(
        devices=tuple(
            Device(
                name=f"d{rank}",
                flops_per_second=rate * scale,
                memory_bytes=memory,
                memory_bandwidth_bytes_per_s=1e18,
                overhead_s=0.0,
                power_compute_w=watts,
            )
            for rank, (watts, rate) in enumerate(devices)
        ),
        network=Link(bandwidth_bytes_per_s=bandwidth, latency_s=0.0),
    )


def programme_of(model: ModelGraph, cluster: Cluster, objective: Objective | None = None) -> Programme:
    cost = CostModel(cluster=cluster, message_overhead_s=0.0)
    task = Task(graph=model, cluster=cluster, cost=cost, objective=objective or Objective())
    return Programme(task, len(model.operators), tuple(cluster.ranks))


def one_layer(rows: int = 12, columns: int = 8) -> ModelGraph:
    """A convolution of 1x1: no halos, seconds exactly linear in rows."""
    return captured(nn.Conv2d(4, 32, 1), 1, 4, rows, columns)


def solved(programme: Programme, *, energy: bool, deadline_s: float | None = None) -> Solution:
    solution = programme.solve(programme.devices, energy=energy, deadline_s=deadline_s)
    assert solution is not None
    return solution


def task_flops(model: ModelGraph) -> float:
    """Of the only operator."""
    (op,) = model.operators
    return float(analysis_of(model).flops[op.name])
