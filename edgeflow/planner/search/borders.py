"""Borders first: rows that other devices wait for get a stage of their own and are sent during the rest.

Any plan may gain from it. A stage whose devices make rows of a tensor, of which a later stage needs some on
another device (halos), is divided: one stage for each side on which there are such rows, then one for the
rest. The cost (kernels start again, rows that both parts need are computed twice) is weighed against the
transfer that is hidden; the exact prediction says whether the whole plan gains.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from edgeflow.graph.ir import ModelGraph
from edgeflow.plan.plan import Plan
from edgeflow.plan.stage import Piece, Shard, Stage
from edgeflow.plan.stage_kernels import stage_kernels
from edgeflow.planner.task import Task, finish
from edgeflow.sharding.region import Region


class _Wanted(NamedTuple):
    """A region of what one rank makes that another one reads."""

    tensor: str
    maker: int
    reader: int
    region: Region


def borders_first(task: Task, plan: Plan) -> Plan | None:
    """Return the plan with borders first where that is estimated to gain, or None if it is nowhere.

    Raises:
        InfeasiblePlanError: If the memory does not hold it.
    """
    stages: list[Stage] = []
    for index, stage in enumerate(plan.stages):
        wanted = _wanted(task.graph, stage, plan.stages[index + 1 :])
        divided = _divided(stage, wanted)
        stages += divided if divided and _gain_s(task, stage, divided, wanted) > 0 else [stage]
    if len(stages) == len(plan.stages):
        return None
    label = f"{plan.chosen or plan.strategy}, borders first"
    return finish(task, tuple(stages), strategy=plan.strategy, label=label)


def _wanted(graph: ModelGraph, stage: Stage, later: Sequence[Stage]) -> list[_Wanted]:
    """Return what the first reading stage of each tensor needs on devices that did not compute it.

    Tensors that go to the client, or are handed over, have no borders.
    """
    if not stage.operators or stage.claimants or len(stage.shards) < 2:
        return []
    found = []
    for name in stage.outputs:
        reader = next((item for item in later if _reads(graph, item, name)), None)
        if name in graph.outputs or reader is None or not reader.operators:
            continue
        made = {shard.device: piece for shard in stage.shards if (piece := shard.piece(name)) is not None}
        if any(piece.contraction is not None for piece in made.values()):
            continue
        for shard in reader.shards:
            need = dict(stage_kernels(graph, reader, shard).needs).get(name)
            own = made.get(shard.device)
            if need is None:
                continue
            for maker, piece in made.items():
                region = piece.region.intersect(need)
                is_there = own is not None and own.region.contains(region)
                if not is_there and not region.is_empty:
                    found.append(_Wanted(name, maker, shard.device, region))
    return found


def _divided(stage: Stage, wanted: Sequence[_Wanted]) -> list[Stage]:
    """Return the stages of the borders, then that of the rest; empty if there is no border."""
    if not wanted:
        return []
    regions: defaultdict[tuple[str, int], list[Region]] = defaultdict(list)
    for item in wanted:
        regions[item.tensor, item.maker].append(item.region)
    sides: tuple[list[Shard], list[Shard]] = ([], [])
    rest: list[Shard] = []
    for shard in stage.shards:
        borders: tuple[list[tuple[str, Piece]], list[tuple[str, Piece]]] = ([], [])
        kept: list[tuple[str, Piece]] = []
        for name, piece in shard.outputs:
            found = _sides(piece.region, regions[name, shard.device])
            middle = _middle(piece.region, found)
            if middle is None:
                return []
            for side, region in zip(borders, found, strict=True):
                if region is not None:
                    side.append((name, Piece(region)))
            kept.append((name, Piece(middle, piece.contraction)))
        for shards, outputs in zip(sides, borders, strict=True):
            if outputs:
                shards.append(Shard(shard.device, tuple(outputs)))
        rest.append(Shard(shard.device, tuple(kept)))
    first = [
        msgspec.structs.replace(stage, name=f"{stage.name}.border{number}", shards=tuple(shards))
        for number, shards in enumerate(sides)
        if shards
    ]
    return [*first, msgspec.structs.replace(stage, shards=tuple(rest))] if first else []


def _reads(graph: ModelGraph, stage: Stage, tensor: str) -> bool:
    if not stage.operators:
        return tensor in stage.outputs
    inside = set(stage.operators)
    return any(op.name in inside for op in graph.consumers.get(tensor, ()))


def _sides(region: Region, wanted: Sequence[Region]) -> tuple[Region | None, Region | None]:
    """The borders of a region at the beginning and at the end of the dim that it is cut along.

    None on a side that no other device reads; regions wanted in the middle, or all over, have no borders.
    """
    dims = {dim for item in wanted for dim in range(len(region)) if item[dim] != region[dim]}
    if len(dims) != 1:
        return None, None
    (dim,) = dims
    low = [item[dim] for item in wanted if item[dim].start == region[dim].start]
    high = [item[dim] for item in wanted if item[dim].start != region[dim].start]
    if any(item.stop != region[dim].stop for item in high):
        return None, None
    first = max(low, key=lambda item: item.stop, default=None)
    last = min(high, key=lambda item: item.start, default=None)
    if first is not None and last is not None and first.stop > last.start:
        return None, None
    return (
        None if first is None else region.replace(dim, first),
        None if last is None else region.replace(dim, last),
    )


def _middle(region: Region, borders: Sequence[Region | None]) -> Region | None:
    """Return what is left between the borders; None if nothing is, or it is not one box."""
    for border in borders:
        if border is not None:
            left = region.subtract(border)
            if len(left) != 1:
                return None
            (region,) = left
    return region


def _gain_s(task: Task, stage: Stage, divided: Sequence[Stage], wanted: Sequence[_Wanted]) -> float:
    """Estimate the gain: the longest transfer that the rest hides, less the additional computation."""
    more_s = 0.0
    rest_s: dict[int, float] = {}
    for shard in stage.shards:
        parts = [
            _compute_s(task, part, item)
            for part in divided
            for item in part.shards
            if item.device == shard.device
        ]
        rest_s[shard.device] = parts[-1]
        more_s = max(more_s, sum(parts) - _compute_s(task, stage, shard))
    num_bytes: defaultdict[tuple[int, int], int] = defaultdict(int)
    for item in wanted:
        size = task.graph.specs[item.tensor].itemsize
        num_bytes[item.maker, item.reader] += item.region.num_elements * size
    hidden_s = max(
        min(rest_s[maker], task.cluster.distance_s(maker, reader, count))
        for (maker, reader), count in num_bytes.items()
    )
    return hidden_s - more_s


def _compute_s(task: Task, stage: Stage, shard: Shard) -> float:
    kernels = stage_kernels(task.graph, stage, shard).kernels
    return task.cost.compute_s(shard.device, kernels, is_shared=True)
