"""What fused tiles cost and save on the first layers of YOLOv2 at 608x608, as in the paper on DeepThings.

Memory is that of the paper: the largest input and output of a layer together, and the filters. The maps and
FLOPs are those of our plans: regions that the operators' rules ask for, kernels of lowered programs.
"""

from __future__ import annotations

from functools import cache

import pytest
import torch

import edgeflow as ef
from edgeflow.cost import CostModel
from edgeflow.graph.ir import ModelGraph
from edgeflow.plan import Plan, verify_plan
from edgeflow.plan.program import Compute, Kernel
from edgeflow.planner.deepthings import tiled
from edgeflow.planner.strategy import Task
from edgeflow.planner.tiles import edges_of, fusable, grid_boxes, tile_work
from edgeflow.sharding.cut import iter_slices
from edgeflow.sharding.region import Region
from edgeflow.testing import yolo

_MIB = 2**20


@cache
def graph() -> ModelGraph:
    return ef.capture(yolo.fused_layers(), (torch.zeros(1, 3, 608, 608),))


def task() -> Task:
    cluster = ef.Cluster.local([1.0] * 6)
    return Task(graph=graph(), cluster=cluster, cost=CostModel(cluster=cluster))


def length(num_layers: int) -> int:
    """The number of operators in the first convolutions and pools, activations included."""
    starts = [i for i, op in enumerate(graph().operators) if "conv" in op.target or "pool" in op.target]
    return [*starts, len(graph().operators)][num_layers]


def layer_bytes(kernel: Kernel) -> int:
    """Bytes of the maps that a layer reads and writes; activations are in place, so they need none."""
    if "relu" in kernel.operator:
        return 0
    read = {
        item.tensor: item.region for item in iter_slices(kernel.steps) if item.tensor not in graph().weights
    }
    regions: list[Region] = [*read.values(), *(region for _, region in kernel.outputs)]
    return sum(region.num_elements * 4 for region in regions)


def memory_mib(grid: tuple[int, int]) -> tuple[float, float]:
    """MiB of the largest layer of the largest tile, and of the filters that a tile reads."""
    operators = graph().operators
    last = task().analysis.full(operators[-1].output)
    works = [tile_work(task().analysis, operators, box) for box in grid_boxes(last, (2, 3), grid).values()]
    maps = max(layer_bytes(kernel) for work in works for kernel in work.kernels)
    (filters,) = {sum(item.num_bytes for item in work.weights) for work in works}
    return maps / _MIB, filters / _MIB


def test_tiles_take_a_third_of_the_memory() -> None:
    """The paper: about 70 MB, less than 23 MB, more than 68 % saved.

    Summed from rounded parts these are 69.45 and 22.12 MiB, and 68.15 %.
    """
    whole_maps, filters = memory_mib((1, 1))
    tile_maps, tile_filters = memory_mib((5, 5))

    assert (round(whole_maps, 2), round(tile_maps, 2)) == (56.41, 9.08)
    assert round(filters, 2) == round(tile_filters, 2) == 13.04
    assert round(whole_maps + filters, 2) == 69.45
    assert tile_maps + tile_filters == pytest.approx(22.12, abs=0.01)
    assert 1 - (tile_maps + tile_filters) / (whole_maps + filters) == pytest.approx(0.6815, abs=2e-4)


@pytest.mark.parametrize(
    ("num_layers", "size", "reuse", "expected"),
    [
        (16, 5, False, 2.20),
        (16, 5, True, 1.28),
        (16, 3, False, 1.53),
        (16, 3, True, 1.07),
        (8, 5, False, 1.12),
        (8, 5, True, 1.01),
    ],
)
def test_borders_are_made_again_or_reused(num_layers: int, size: int, reuse: bool, expected: float) -> None:
    """FLOPs of the fused convolutions over those of whole maps."""
    count = length(num_layers)
    assert count in fusable(task().analysis, edges_of(task().analysis))
    plan = Plan(
        graph=graph(),
        cluster=task().cluster,
        stages=tiled(task(), count, (size, size), reuse=reuse),
        strategy="deepthings",
    )
    verify_plan(plan)

    fused = [op.name for op in graph().operators[:count] if "conv" in op.target]
    done = sum(
        kernel.flops
        for program in plan.programs.values()
        for item in program.instructions
        if isinstance(item, Compute)
        for kernel in item.kernels
        if kernel.operator in fused
    )
    assert round(done / sum(task().analysis.flops[name] for name in fused), 2) == expected


def test_reused_borders_hardly_cost_memory() -> None:
    """Each device keeps thin borders, not whole maps, for its neighbours."""
    peaks = {}
    for reuse in (False, True):
        stages = tiled(task(), length(16), (5, 5), reuse=reuse)
        plan = Plan(graph=graph(), cluster=task().cluster, stages=stages, strategy="deepthings")
        peaks[reuse] = max(program.peak_bytes for rank, program in plan.programs.items() if rank >= 0)

    assert peaks[True] < 1.05 * peaks[False]
