"""Memory and repeated work of the first layers of YOLOv2 (608x608) in fused tiles.

Memory is that of the paper: the largest input and output of a layer together, and the filters. The maps and
FLOPs are those of our plans: regions that the operators' rules ask for, kernels of lowered programs.
"""

from __future__ import annotations

from functools import cache

import torch

import edgeflow as ef
from edgeflow.cost import CostModel
from edgeflow.graph.ir import ModelGraph
from edgeflow.plan import Decision, Plan, Weighed, verify_plan
from edgeflow.plan.program import Kernel
from edgeflow.planner.layouts.tiles import grid_boxes, tile_work
from edgeflow.planner.strategies.deepthings import tiled
from edgeflow.planner.task import Task
from edgeflow.sharding.cut import iter_slices
from edgeflow.sharding.region import Region
from edgeflow.testing import yolo
from simulations.counting import flops_of

#: Convolutions and pools that the paper fuses, of which there are as many here.
LAYERS = 16
_DEVICES = 6
_MIB = 2**20
_ROWS_COLUMNS = (2, 3)


@cache
def graph() -> ModelGraph:
    return ef.capture(yolo.fused_layers(), (torch.zeros(1, 3, 608, 608),))


@cache
def task() -> Task:
    cluster = ef.Cluster.local([1.0] * _DEVICES)
    return Task(graph=graph(), cluster=cluster, cost=CostModel(cluster=cluster))


def length(num_layers: int) -> int:
    """The number of operators in the first convolutions and pools, activations included."""
    starts = [i for i, op in enumerate(graph().operators) if "conv" in op.target or "pool" in op.target]
    return [*starts, len(graph().operators)][num_layers]


def memory_mib(grid: tuple[int, int], num_layers: int = LAYERS) -> tuple[float, float]:
    """MiB of the largest layer of the largest tile, and of the filters that a tile reads."""
    operators = graph().operators[: length(num_layers)]
    last = task().analysis.full(operators[-1].output)
    boxes = grid_boxes(last, _ROWS_COLUMNS, grid).values()
    works = [tile_work(task().analysis, operators, box) for box in boxes]
    maps = max(_layer_bytes(kernel) for work in works for kernel in work.kernels)
    (filters,) = {sum(item.num_bytes for item in work.weights) for work in works}
    return maps / _MIB, filters / _MIB


def _layer_bytes(kernel: Kernel) -> int:
    """Bytes of the maps that a layer reads and writes; activations are in place, so they need none."""
    if "relu" in kernel.operator:
        return 0
    read = {
        item.tensor: item.region for item in iter_slices(kernel.steps) if item.tensor not in graph().weights
    }
    regions: list[Region] = [*read.values(), *(region for _, region in kernel.outputs)]
    return sum(region.num_elements * 4 for region in regions)


def plan_of(grid: tuple[int, int], num_layers: int = LAYERS, *, reuse: bool) -> Plan:
    """The first layers in tiles, the others on the gateway."""
    stages = tiled(task(), length(num_layers), grid, reuse=reuse)
    plan = Plan(
        Decision(graph=graph(), cluster=task().cluster, stages=stages), Weighed(strategy="deepthings")
    )
    verify_plan(plan)
    return plan


def work_share(grid: tuple[int, int], num_layers: int = LAYERS, *, reuse: bool) -> float:
    """FLOPs of the fused convolutions over those of whole maps."""
    fused = {op.name for op in graph().operators[: length(num_layers)] if "conv" in op.target}
    done = flops_of(plan_of(grid, num_layers, reuse=reuse), fused).total()
    return done / sum(task().analysis.flops[name] for name in fused)
