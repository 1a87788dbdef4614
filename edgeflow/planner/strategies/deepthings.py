"""DeepThings: the first layers fused into a grid of tiles, the rest of the network on the gateway.

Fused tile partitioning: the map after the last fused layer is cut into N x M tiles (sizes rounded up, the
last ones take what remains), and each tile is propagated back to the image. With reuse, tiles are taken
like the squares of a checkerboard: those of one colour run in full and keep, of each layer, the borders
that their neighbours lack; the others then compute only what is left, layer by layer, and fetch the
borders. The gateway is the device where requests arrive; it puts tiles together and runs the remaining
layers.

Without reuse, tiles are claimed while they run: a device that is idle takes the next one. The devices of the
paper begin with queues of their own and then steal from each other, found by way of the gateway; here there
is one queue, at the client, which hands the same tiles to the same idle devices. With reuse tiles are dealt
out beforehand, in proportion to speed, since it must be known which device has a border; the paper's fallback
to a full tile when a neighbour is late is not here (a plan waits). How many layers are fused, how fine the
grid is, and whether borders are reused, which the paper leaves to the user, is the best predicted among a
few. Borders go from device to device, not by way of the gateway. Partition, reuse and schedule follow the
authors' published C source.

References:
    Zhao, Barijough, Gerstlauer, "DeepThings: Distributed Adaptive Deep Learning Inference on
    Resource-Constrained IoT Edge Clusters", IEEE Transactions on CAD 37(11), 2018.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import product
from math import ceil, sqrt
from typing import Final

import msgspec

from edgeflow.cluster.cluster import Cluster
from edgeflow.errors import InfeasiblePlanError
from edgeflow.plan.plan import Plan
from edgeflow.plan.stage import Piece, Shard, Stage
from edgeflow.plan.stage_kernels import stage_kernels
from edgeflow.planner.layouts.layout import Layout, close, names_of, single_draft
from edgeflow.planner.layouts.tiles import (
    Position,
    deal,
    edges_of,
    fusable,
    grid_boxes,
    reusing_stages,
    tile_stages,
    tile_work,
)
from edgeflow.planner.task import Run, Task, best_of, finish, finish_runs
from edgeflow.sharding.region import Region

#: How many lengths of the fused part are weighed, and how many choices are predicted exactly where they fit.
_MAX_LENGTHS: Final = 3
_MAX_EXACT: Final = 2


def deepthings(task: Task) -> Plan:
    """Return the plan of fused tiles; the gateway alone where nothing can be fused, or there is one device.

    One device whose memory does not hold whole maps takes tiles one after another.

    Raises:
        InfeasiblePlanError: If a device cannot hold its part, whatever was tried, or has no link to the
            gateway.
    """
    lengths = _lengths(task)
    plans: list[Plan] = []
    failures: list[tuple[str, InfeasiblePlanError]] = []
    if not lengths or len(task.cluster.devices) == 1:
        alone = Layout(kind="single", devices=(task.cluster.source_rank,))
        label = "deepthings on the gateway alone"
        try:
            return finish_runs(task, [Run(task.graph.operators, alone)], strategy="deepthings", label=label)
        except InfeasiblePlanError as error:
            failures.append((label, error))
    for index, (length, grid) in enumerate(_choices(task, lengths)):
        if index >= _MAX_EXACT and plans:
            break
        for reuse in (True, False):
            how = "borders reused" if reuse else "tiles claimed"
            label = f"deepthings {grid[0]}x{grid[1]} tiles of {length} operators, {how}"
            try:
                stages = tiled(task, length, grid, reuse=reuse, claims=not reuse)
                plans.append(finish(task, stages, strategy="deepthings", label=label))
            except InfeasiblePlanError as error:
                failures.append((label, error))
    return best_of(plans, objective=task.objective, strategy="deepthings", failures=failures)


def tiled(task: Task, length: int, grid: Position, *, reuse: bool, claims: bool = False) -> tuple[Stage, ...]:
    """Return the stages of the whole graph with its first ``length`` operators in a grid of tiles.

    Args:
        length: One of those that `edgeflow.planner.layouts.tiles.fusable` names.
        reuse: Whether borders are fetched from neighbours where they can be, rather than made again.
        claims: Whether tiles without reuse are claimed while they run, rather than dealt out beforehand.
    """
    analysis, operators = task.analysis, task.graph.operators[:length]
    boxes = _boxes(task, length, grid)
    dealt = deal(list(boxes), task.speeds)
    stages = reusing_stages(analysis, operators, boxes, dealt) if reuse else None
    if stages is None:
        stages = tile_stages(operators, boxes, dealt, claimants=_claimants(task) if claims else ())
    rest = task.graph.operators[length:]
    if rest:
        stages += close(analysis, [single_draft(analysis, rest, task.cluster.source_rank)])
    return tuple(
        msgspec.structs.replace(
            stage, name=f"s{index}", kind=stage.kind if len(stage.devices) > 1 else "single"
        )
        for index, stage in enumerate(stages)
    )


def _claimants(task: Task) -> tuple[int, ...]:
    """Return the devices that claim tiles: all that the gateway reaches, fast ones first; none if alone."""
    cluster, gateway = task.cluster, task.cluster.source_rank
    reached = [rank for rank in cluster.ranks if rank == gateway or _is_joined(cluster, gateway, rank)]
    ranks = sorted(reached, key=lambda rank: (-task.speeds[rank], rank))
    return tuple(ranks) if len(ranks) > 1 else ()


def _is_joined(cluster: Cluster, a: int, b: int) -> bool:
    return cluster.is_connected(a, b) and cluster.is_connected(b, a)


def _boxes(task: Task, length: int, grid: Position) -> dict[Position, Region]:
    last = task.graph.operators[length - 1].output
    dims = [labels[last] for labels in edges_of(task.analysis)]
    return grid_boxes(task.analysis.full(last), dims, grid)


def _lengths(task: Task) -> list[int]:
    """A few lengths of the fused part: up to each third of what can be fused, where the map is smallest."""
    analysis = task.analysis
    found = fusable(analysis, edges_of(analysis))
    if not found:
        return []
    done, flops = 0, []
    for op in task.graph.operators[: found[-1]]:
        done += analysis.flops[op.name]
        flops.append(done)
    smallest: dict[int, tuple[int, int]] = {}
    for length in found:
        part = min(_MAX_LENGTHS - 1, _MAX_LENGTHS * flops[length - 1] // max(1, done))
        num_bytes = task.graph.specs[task.graph.operators[length - 1].output].num_bytes
        smallest[part] = min(smallest.get(part, (num_bytes, -length)), (num_bytes, -length))
    return [-length for _, (_, length) in sorted(smallest.items())]


def _choices(task: Task, lengths: Sequence[int]) -> list[tuple[int, Position]]:
    """Lengths and grids, those expected to be fastest first: tiles without reuse, nothing overlaps."""
    edges = len(edges_of(task.analysis))
    sizes = sorted({2, 3, ceil(sqrt(2 * len(task.cluster.devices)))})
    grids = [(size, size) if edges == 2 else (size * size, 1) for size in sizes]
    gateway_s = _seconds_alone(task)
    expected = {
        (length, grid): _tiles_s(task, length, grid) + sum(gateway_s[length:])
        for length, grid in product(lengths, grids)
    }
    return sorted(expected, key=lambda choice: (expected[choice], choice))


def _seconds_alone(task: Task) -> list[float]:
    """Seconds of each operator, whole, on the gateway."""
    names = names_of(task.graph.operators)
    outputs = tuple(
        (name, Piece(task.analysis.full(name))) for op in task.graph.operators for name in op.used_outputs
    )
    rank = task.cluster.source_rank
    work = stage_kernels(
        task.graph, Stage(name="", kind="", operators=names, shards=()), Shard(rank, outputs)
    )
    return task.cost.kernels_s(rank, work.kernels)


def _tiles_s(task: Task, length: int, grid: Position) -> float:
    """Seconds until the gateway has all tiles: the slowest device's kernels and transfers.

    All tiles are taken to cost what the one in the middle does, which has neighbours on all sides.
    """
    gateway, operators = task.cluster.source_rank, task.graph.operators[:length]
    boxes = _boxes(task, length, grid)
    dealt = Counter(deal(list(boxes), task.speeds).values())
    work = tile_work(task.analysis, operators, boxes[sorted(boxes)[len(boxes) // 2]])
    regions = [*work.needs, *work.outputs]
    num_bytes = sum(region.num_elements * task.graph.specs[name].itemsize for name, region in regions)
    seconds = []
    for rank, count in dealt.items():
        each_s = task.cost.compute_s(rank, work.kernels)
        if rank != gateway:
            each_s += task.cluster.distance_s(gateway, rank, num_bytes) + 2 * task.cost.message_s(rank)
        seconds.append(count * each_s)
    return max(seconds)
