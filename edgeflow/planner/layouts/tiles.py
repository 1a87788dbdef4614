"""Fused tiles: many layers cut into a grid of boxes, each computed from the image; borders reused or not.

A tile of the last map needs, of every map before, its own box and a border around it that grows towards the
image; neighbouring tiles overlap there. Without reuse each tile computes all of it. With reuse the tiles of
one colour of a checkerboard compute all of it, and the others only what no neighbour has computed; the others
run layer by layer, since every layer begins with the neighbours' borders.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

from edgeflow.graph.ir import Operator
from edgeflow.plan.stage import Piece, Shard, Stage
from edgeflow.plan.stage_kernels import StageKernels, stage_kernels
from edgeflow.planner.analysis import Analysis, Labels
from edgeflow.planner.layouts.hub import is_convolution
from edgeflow.planner.layouts.layout import names_of
from edgeflow.planner.layouts.levels import levels
from edgeflow.sharding.region import Interval, Region, subtract_all

#: Row and column of a tile in the grid.
Position = tuple[int, int]
#: Tile -> the device that runs it.
Dealt = Mapping[Position, int]
#: Tensor -> what a tile makes of it.
Made = dict[str, Region]


def edges_of(analysis: Analysis) -> tuple[Labels, ...]:
    """Labels of the first two spatial dims of what the first convolution reads; fewer where it has fewer."""
    first = next((op for op in analysis.graph.operators if is_convolution(op)), None)
    if first is None:
        return ()
    name, found = first.inputs[0], []
    for dim in range(2, min(4, analysis.graph.specs[name].ndim)):
        found += [labels for labels in analysis.labellings if labels.get(name) == dim][:1]
    return tuple(found)


def fusable(analysis: Analysis, edges: Sequence[Labels]) -> tuple[int, ...]:
    """Return how many operators, from the first on, can be fused: every such number.

    Each of them has one result, cut along every edge, and only the last one's is read by others.
    """
    graph = analysis.graph
    last_use = {name: index for index, op in enumerate(graph.operators) for name in op.inputs}
    last_use |= dict.fromkeys(graph.outputs, len(graph.operators))
    found, reach = [], 0
    for index, op in enumerate(graph.operators):
        dims = {labels.get(op.first_output) for labels in edges}
        if not edges or len(op.outputs) != 1 or None in dims or len(dims) < len(edges):
            break
        if reach <= index:
            found.append(index + 1)
        reach = max(reach, last_use.get(op.output, 0))
    return tuple(found)


def grid_boxes(full: Region, dims: Sequence[int], grid: Position) -> dict[Position, Region]:
    """Cut a map into tiles along one or two dims: sizes rounded up, the last take what remains."""
    rows = _rounded_up(full[dims[0]].length, grid[0])
    if len(dims) == 1:
        return {(i, 0): full.replace(dims[0], row) for i, row in enumerate(rows)}
    columns = _rounded_up(full[dims[1]].length, grid[1])
    return {
        (i, j): full.replace(dims[0], row).replace(dims[1], column)
        for (i, row), (j, column) in product(enumerate(rows), enumerate(columns))
    }


def _rounded_up(size: int, count: int) -> list[Interval]:
    step = -(-size // count)
    return [Interval(start, min(start + step, size)) for start in range(0, size, step)]


def is_first(position: Position) -> bool:
    """Whether a tile has the colour that runs first, and in full."""
    return sum(position) % 2 == 0


def deal(tiles: Sequence[Position], speeds: Sequence[float]) -> Dealt:
    """Share tiles out in proportion to speed, first those of the first colour; neighbours stay together.

    Each tile in turn is counted for the device that would finish it first; then every device takes its number
    of tiles, in the order of the grid.
    """
    counts = [0] * len(speeds)
    dealt: dict[Position, int] = {}
    for colour in (True, False):
        members = sorted(tile for tile in tiles if is_first(tile) == colour)
        before = list(counts)
        for _ in members:
            rank = min(range(len(speeds)), key=lambda rank: ((counts[rank] + 1) / speeds[rank], rank))
            counts[rank] += 1
        owners = [rank for rank in range(len(speeds)) for _ in range(counts[rank] - before[rank])]
        dealt |= dict(zip(members, owners, strict=True))
    return dealt


def tile_work(analysis: Analysis, operators: Sequence[Operator], box: Region) -> StageKernels:
    """Return kernels, needs and outputs of one tile, computed from the image."""
    stage = Stage(name="", kind="", operators=names_of(operators), shards=())
    return stage_kernels(analysis.graph, stage, Shard(0, ((operators[-1].output, Piece(box)),)))


def tile_stages(
    operators: Sequence[Operator],
    boxes: Mapping[Position, Region],
    dealt: Dealt,
    *,
    claimants: tuple[int, ...] = (),
) -> tuple[Stage, ...]:
    """Return the one stage in which every tile computes all that it needs.

    Args:
        claimants: If any, idle devices of these claim tiles at run time; ``dealt`` does not decide.
    """
    last = operators[-1].output
    shards = tuple(Shard(dealt[tile], ((last, Piece(box)),)) for tile, box in sorted(boxes.items()))
    names = names_of(operators)
    return (Stage(name="", kind="tiles", operators=names, shards=shards, claimants=claimants),)


def reusing_stages(
    analysis: Analysis, operators: Sequence[Operator], boxes: Mapping[Position, Region], dealt: Dealt
) -> tuple[Stage, ...] | None:
    """Return a stage for the first colour in full, then one per layer and round for the other colour.

    Tiles of the other colour use their neighbours' borders. In a round every device runs one tile, so that
    its memory holds the maps of one tile at a time. None if what the neighbours leave is not a box.
    """
    in_full = {
        tile: _made(tile_work(analysis, operators, box)) for tile, box in boxes.items() if is_first(tile)
    }
    rests: dict[Position, Made] = {}
    for tile, box in sorted(boxes.items()):
        if not is_first(tile):
            rest = _rest(analysis, operators, box, [in_full[near] for near in _neighbours(tile, in_full)])
            if rest is None:
                return None
            rests[tile] = rest
    if not rests:
        return tile_stages(operators, boxes, dealt)
    layers = _layers(analysis, operators, rests)
    published = _published(analysis, layers, rests, in_full, dealt)
    last = operators[-1].output
    first = Stage(
        name="",
        kind="tiles",
        operators=names_of(operators),
        shards=tuple(
            Shard(dealt[tile], ((last, Piece(boxes[tile])), *published[tile])) for tile in sorted(in_full)
        ),
    )
    return (first, *_rounds(analysis, layers, rests, dealt))


def _made(work: StageKernels) -> Made:
    return {name: region for kernel in work.kernels for name, region in kernel.outputs}


def _neighbours(tile: Position, others: Mapping[Position, Made]) -> list[Position]:
    i, j = tile
    return [near for near in ((i - 1, j), (i, j - 1), (i, j + 1), (i + 1, j)) if near in others]


def _rest(
    analysis: Analysis, operators: Sequence[Operator], box: Region, given: Sequence[Made]
) -> Made | None:
    """Return what a tile computes of every tensor beside what its neighbours have; None if that is not a box.

    A neighbour may have none of a tensor, where strides skip it.
    """
    wanted: Made = {operators[-1].output: box}
    rest: Made = {}
    for op in reversed(operators):
        need = wanted.get(op.output)
        left = (
            ()
            if need is None
            else subtract_all(need, [made[op.output] for made in given if op.output in made])
        )
        if not left:
            continue
        hull = left[0]
        for part in left[1:]:
            hull = hull.hull(part)
        cut = analysis.cutter.cut(op, hull)
        if cut.region.num_elements != sum(part.num_elements for part in left):
            return None
        rest[op.output] = hull
        for name, region in cut.needs.items():
            wanted[name] = wanted[name].hull(region) if name in wanted else region
    return rest


def _layers(
    analysis: Analysis, operators: Sequence[Operator], rests: Mapping[Position, Made]
) -> list[list[Operator]]:
    """Divide the operators into layers inside of which tiles need nothing of each other."""
    owned = {
        index: {name: Piece(region) for name, region in rest.items()}
        for index, rest in enumerate(rests.values())
    }
    found = levels(analysis, operators, owned)
    return [[op for op in operators if found[op.name] == level] for level in sorted(set(found.values()))]


def _shard_of(analysis: Analysis, layer: Sequence[Operator], rest: Made, device: int) -> Shard | None:
    """Return a tile's shard of a layer: what it computes of the tensors that leave the layer."""
    inside = set(names_of(layer))
    graph = analysis.graph
    outputs = tuple(
        (op.output, Piece(rest[op.output]))
        for op in layer
        if op.output in rest
        and (
            op.output in graph.outputs
            or any(reader.name not in inside for reader in graph.consumers.get(op.output, ()))
        )
    )
    return Shard(device, outputs) if outputs else None


def _published(
    analysis: Analysis,
    layers: Sequence[Sequence[Operator]],
    rests: Mapping[Position, Made],
    in_full: Mapping[Position, Made],
    dealt: Dealt,
) -> dict[Position, list[tuple[str, Piece]]]:
    """Return the borders that each tile of the first colour keeps for its neighbours, each border once."""
    published: dict[Position, list[tuple[str, Piece]]] = {tile: [] for tile in in_full}
    kept: dict[str, list[Region]] = {}
    for layer, (tile, rest) in product(layers, rests.items()):
        shard = _shard_of(analysis, layer, rest, dealt[tile])
        if shard is None:
            continue
        stage = Stage(name="", kind="", operators=names_of(layer), shards=())
        near = sorted(_neighbours(tile, in_full), key=lambda other: dealt[other] != dealt[tile])
        for name, need in stage_kernels(analysis.graph, stage, shard).needs:
            if name in analysis.graph.inputs:
                continue
            mine = [rest[name]] if name in rest else []
            missing = subtract_all(need, (*mine, *kept.get(name, ())))
            for other in near:
                theirs = in_full[other].get(name)
                if theirs is None:
                    continue
                for box in missing:
                    border = box.intersect(theirs)
                    if not border.is_empty:
                        published[other].append((name, Piece(border)))
                        kept.setdefault(name, []).append(border)
                missing = tuple(part for box in missing for part in box.subtract(theirs))
    return published


def _rounds(
    analysis: Analysis,
    layers: Sequence[Sequence[Operator]],
    rests: Mapping[Position, Made],
    dealt: Dealt,
) -> list[Stage]:
    queues: dict[int, list[Position]] = {}
    for tile in rests:
        queues.setdefault(dealt[tile], []).append(tile)
    stages = []
    for turn in range(max(map(len, queues.values()))):
        tiles = [(device, queue[turn]) for device, queue in sorted(queues.items()) if turn < len(queue)]
        for layer in layers:
            shards = [_shard_of(analysis, layer, rests[tile], device) for device, tile in tiles]
            busy = tuple(shard for shard in shards if shard is not None)
            if busy:
                stages.append(Stage(name="", kind="tiles", operators=names_of(layer), shards=busy))
    return stages
