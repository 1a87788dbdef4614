"""Random plans: any layout for any run of operators, and stages that no strategy would think of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random

from edgeflow.cluster.cluster import Cluster
from edgeflow.graph.ir import ModelGraph, Operator
from edgeflow.plan import Piece, Shard, Stage
from edgeflow.planner.layouts.layout import Layout
from edgeflow.planner.task import Run, Task, stages_of
from edgeflow.sharding.region import Interval, Region, split_interval
from edgeflow.sharding.rules import contraction_size

#: Tile, device -> what the device owns of one tensor; most have one tile.
Pieces = dict[tuple[int, int], Piece]


def random_layout(rng: Random, task: Task) -> Layout:
    """Return any layout: any devices in any order, uneven shares, some of them zero."""
    ranks = list(task.cluster.ranks)
    devices = tuple(rng.sample(ranks, rng.randint(1, len(ranks))))
    kind = rng.choice(["single", "rows", "rows", "tensor", "tensor"])
    if kind == "single":
        return Layout(kind="single", devices=devices[:1])
    count = max(1, len(task.analysis.labellings))
    return Layout(
        kind="rows" if kind == "rows" else "tensor",
        devices=devices,
        shares=random_shares(rng, len(devices)),
        exchange=rng.random() < 0.6,
        labelling=rng.randrange(count),
        across=rng.randrange(count) if rng.random() < 0.3 else None,
        bands=random_bands(rng, len(devices)),
        reduce=rng.choice(["direct", "scatter", "star"]),
    )


def random_bands(rng: Random, count: int) -> tuple[int, ...]:
    """Return positive numbers that add up to ``count``."""
    bands: list[int] = []
    while sum(bands) < count:
        bands.append(rng.randint(1, count - sum(bands)))
    return tuple(bands)


def random_shares(rng: Random, count: int) -> tuple[float, ...]:
    """Return shares of which at least one is not zero."""
    shares = [rng.choice([0.0, 0.02, 0.3, 1.0, rng.random()]) for _ in range(count)]
    shares[rng.randrange(count)] = 0.5
    return tuple(shares)


def random_layout_stages(rng: Random, task: Task) -> tuple[Stage, ...]:
    """Return stages that the planner's own builders make of random layouts.

    Half of the time the graph is divided where strategies divide it, else anywhere.
    """
    stretches: Sequence[tuple[Operator, ...]] = task.analysis.stretches
    if rng.random() < 0.5:
        stretches = list(random_runs(rng, task.graph.operators))
    return stages_of(task, [Run(stretch, random_layout(rng, task)) for stretch in stretches])


def random_runs(rng: Random, operators: Sequence[Operator]) -> Iterator[tuple[Operator, ...]]:
    """Divide operators into consecutive runs of random lengths."""
    start = 0
    while start < len(operators):
        stop = start + rng.choice([1, 1, 2, 3, 5, 8, 13, 50])
        yield tuple(operators[start:stop])
        start = stop


def random_stages(rng: Random, graph: ModelGraph, cluster: Cluster) -> tuple[Stage, ...]:
    """Return stages of random operators whose results are owned in random boxes, copies and partial sums.

    Between them stand stages without operators, which hand tensors over to others.
    """
    stages: list[Stage] = []
    made: list[str] = list(graph.inputs)
    for operators in random_runs(rng, random_order(rng, graph)):
        stage = _stage(rng, graph, cluster, operators, f"s{len(stages)}")
        made += stage.outputs
        stages += _in_turn(rng, stage)
        while rng.random() < 0.25:
            names = rng.sample(made, rng.randint(1, min(3, len(made))))
            pieces = {
                name: _random_boxes(rng, cluster, Region.full(graph.specs[name].shape)) for name in names
            }
            stages.append(_named_stage(rng, f"s{len(stages)}", "reduce", (), pieces))
    return tuple(stages)


def random_order(rng: Random, graph: ModelGraph) -> list[Operator]:
    """Return the operators in some topological order."""
    if rng.random() < 0.5:
        return list(graph.operators)
    waiting = list(graph.operators)
    ready: set[str] = {*graph.inputs, *graph.weights}
    order = []
    while waiting:
        op = rng.choice([op for op in waiting if ready.issuperset(op.inputs)])
        waiting.remove(op)
        ready.update(op.outputs)
        order.append(op)
    return order


def _stage(
    rng: Random, graph: ModelGraph, cluster: Cluster, operators: tuple[Operator, ...], name: str
) -> Stage:
    inside = {op.name for op in operators}
    pieces: dict[str, Pieces] = {}
    for op in operators:
        for tensor in op.outputs:
            readers = graph.consumers.get(tensor, ())
            is_read_inside = any(reader.name in inside for reader in readers)
            if tensor and (tensor in graph.outputs or any(reader.name not in inside for reader in readers)):
                pieces[tensor] = _random_pieces(rng, graph, cluster, op, tensor, may_sum=not is_read_inside)
    return _named_stage(rng, name, "rows", tuple(op.name for op in operators), pieces)


def _in_turn(rng: Random, stage: Stage) -> list[Stage]:
    """Return the stage, or two that each do a part of it: some shards first, then the others."""
    has_sums = any(piece.contraction is not None for shard in stage.shards for _, piece in shard.outputs)
    if has_sums or len(stage.shards) < 2 or rng.random() < 0.7:
        return [stage]
    middle = rng.randint(1, len(stage.shards) - 1)
    return [
        Stage(name=f"{stage.name}{part}", kind=stage.kind, operators=stage.operators, shards=shards)
        for part, shards in (("a", stage.shards[:middle]), ("b", stage.shards[middle:]))
    ]


def _named_stage(
    rng: Random, name: str, kind: str, operators: tuple[str, ...], pieces: dict[str, Pieces]
) -> Stage:
    """A shard for each tile, or one for each device, which then may have several pieces of a tensor."""
    keys = sorted({key for owners in pieces.values() for key in owners})
    is_merged = rng.random() < 0.3
    shards: dict[tuple[int, int], list[tuple[str, Piece]]] = {}
    for key in keys:
        owned = [(tensor, owners[key]) for tensor, owners in pieces.items() if key in owners]
        shards.setdefault((0, key[1]) if is_merged else key, []).extend(owned)
    return Stage(
        name=name,
        kind=kind,
        operators=operators,
        shards=tuple(Shard(key[1], tuple(owned)) for key, owned in shards.items()),
    )


def _random_pieces(
    rng: Random, graph: ModelGraph, cluster: Cluster, op: Operator, tensor: str, *, may_sum: bool
) -> Pieces:
    full = Region.full(graph.specs[tensor].shape)
    size = contraction_size(op, graph.specs)
    if may_sum and size is not None and size > 1 and rng.random() < 0.5:
        devices = rng.sample(cluster.ranks, rng.randint(1, len(cluster.ranks)))
        intervals = split_interval(size, random_shares(rng, len(devices)))
        return {(0, d): Piece(full, i) for d, i in zip(devices, intervals, strict=True) if i.length}
    return _random_boxes(rng, cluster, full)


def _random_boxes(rng: Random, cluster: Cluster, full: Region) -> Pieces:
    """Return pieces that cover ``full``: one whole, several copies, tiles, or a grid that may overlap."""
    devices = rng.sample(cluster.ranks, rng.randint(1, len(cluster.ranks)))
    if rng.random() < 0.2:
        return {(0, device): Piece(full) for device in devices}
    if rng.random() < 0.2:
        keys = [(tile, device) for tile in range(rng.randint(2, 4)) for device in devices]
        rng.shuffle(keys)
        return {key: Piece(box) for key, box in _grid(rng, full, keys)}
    return {
        key: Piece(_grown(rng, box, full) if rng.random() < 0.2 else box)
        for key, box in _grid(rng, full, [(0, device) for device in devices])
    }


def _grid(
    rng: Random, region: Region, devices: Sequence[tuple[int, int]]
) -> Iterator[tuple[tuple[int, int], Region]]:
    """Divide a region between tiles of devices, recursively along random dims."""
    dims = [dim for dim, interval in enumerate(region.intervals) if interval.length > 1]
    if len(devices) == 1 or not dims:
        yield devices[0], region
        return
    dim = rng.choice(dims)
    groups = _divided(rng, devices)
    intervals = split_interval(region[dim].length, random_shares(rng, len(groups)))
    for group, interval in zip(groups, intervals, strict=True):
        if interval.length:
            yield from _grid(rng, region.replace(dim, interval.shift(region[dim].start)), group)


def _divided(rng: Random, devices: Sequence[tuple[int, int]]) -> list[Sequence[tuple[int, int]]]:
    """Divide devices into two groups, or into groups of one."""
    if rng.random() < 0.5:
        return [[device] for device in devices]
    middle = rng.randint(1, len(devices) - 1)
    return [devices[:middle], devices[middle:]]


def _grown(rng: Random, box: Region, full: Region) -> Region:
    """Return a box that reaches further than ``box`` on some sides."""
    return Region(
        tuple(
            Interval(rng.randint(whole.start, mine.start), rng.randint(mine.stop, whole.stop))
            for mine, whole in zip(box.intervals, full.intervals, strict=True)
        )
    )
