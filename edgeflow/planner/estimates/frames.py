"""A cheap bound of a plan's latency: the processor seconds that frames alone cost the busiest device.

On many devices a plan that sends everything to every device has hundreds of thousands of frames, and writing
its programs takes seconds. If a better plan is known, counting the frames is enough to refuse it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from math import inf
from typing import Final

import msgspec

from edgeflow.cost.model import CostModel
from edgeflow.graph.ir import ModelGraph
from edgeflow.plan.program import CLIENT
from edgeflow.plan.stage import Piece, Shard, Stage
from edgeflow.plan.stage_kernels import stage_kernels
from edgeflow.sharding.region import Region

#: The bound is checked every this many stages.
_OFTEN: Final = 4


class _Owner(msgspec.Struct, frozen=True, gc=False):
    """A rank's piece of a tensor, and the number of the stage that made it."""

    rank: int
    piece: Piece
    stage: int


def busiest_s(
    graph: ModelGraph, cost: CostModel, stages: tuple[Stage, ...], *, enough_s: float = inf
) -> tuple[float, int]:
    """Return a lower bound of a plan's predicted latency, and the rank that it holds for.

    Counts only frames that must exist: those with what a rank lacks of a tensor when it first reads it. Of
    these, only frames before the last result that leaves the rank, since no answer waits for later ones.

    Args:
        enough_s: Stop counting once the bound is above this.
    """
    if any(stage.claimants for stage in stages):  # which device claims a tile is decided at run time
        return 0.0, CLIENT
    count = _Count(graph)
    bound = (0.0, CLIENT)
    for index, stage in enumerate(stages):
        count.add(index, stage)
        if index % _OFTEN == 0 or index == len(stages) - 1:
            bound = max((count.seconds(rank, cost) for rank in count.last_of_use), default=bound)
            if bound[0] > enough_s:
                break
    return bound


class _Count:
    def __init__(self, graph: ModelGraph) -> None:
        self._graph = graph
        self._owners: defaultdict[str, list[_Owner]] = defaultdict(list)
        for name in graph.inputs:
            self._owners[name].append(_Owner(CLIENT, Piece(Region.full(graph.specs[name].shape)), -1))
        #: Tensor -> ranks that have read it.
        self._readers: defaultdict[str, set[int]] = defaultdict(set)
        #: Rank -> stage -> frames: received before it computes there; sent of what it makes there.
        self._received: defaultdict[int, Counter[int]] = defaultdict(Counter)
        self._sent: defaultdict[int, Counter[int]] = defaultdict(Counter)
        #: Rank -> the last stage that has a result which leaves it.
        self.last_of_use: dict[int, int] = {}

    def seconds(self, rank: int, cost: CostModel) -> tuple[float, int]:
        """Return the seconds of a rank's frames before the last result that leaves it, and the rank."""
        last, each = self.last_of_use[rank], cost.message_cost(rank)
        num_received = sum(num for when, num in self._received[rank].items() if when <= last)
        num_sent = sum(num for when, num in self._sent[rank].items() if when < last)
        return num_received * each.receive_s + num_sent * each.send_s, rank

    def add(self, index: int, stage: Stage) -> None:
        made: defaultdict[str, list[_Owner]] = defaultdict(list)
        for shard in stage.shards:
            needs, outputs = _reads_and_makes(self._graph, stage, shard)
            for tensor, region in needs:
                if shard.device not in self._readers[tensor]:
                    self._read(index, shard.device, tensor, region)
            for tensor, piece in outputs:
                made[tensor].append(_Owner(shard.device, piece, index))
        for tensor, owners in made.items():
            if stage.operators:
                self._owners[tensor] += owners
            else:  # handed over: earlier readers fetch it again
                self._owners[tensor] = owners
                self._readers[tensor].clear()

    def _read(self, index: int, rank: int, tensor: str, region: Region) -> None:
        """Count what a rank is sent when it reads a tensor for the first time."""
        owners = self._owners[tensor]
        if any(
            owner.rank == rank and owner.piece.contraction is None and owner.piece.region.contains(region)
            for owner in owners
        ):
            return
        self._readers[tensor].add(rank)
        senders = [owner for owner in owners if owner.rank != rank and owner.piece.region.overlap(region) > 0]
        for owner in senders if self._is_exact(tensor, owners) else ():
            self._received[rank][index] += 1
            self._sent[owner.rank][owner.stage] += 1
            if owner.rank != CLIENT:
                self.last_of_use[owner.rank] = max(self.last_of_use.get(owner.rank, -1), owner.stage)

    def _is_exact(self, tensor: str, owners: Sequence[_Owner]) -> bool:
        """Return whether every owner must send a frame; where pieces overlap, one may be enough."""
        if any(owner.piece.contraction is not None for owner in owners):
            return True
        size = sum(owner.piece.region.num_elements for owner in owners)
        return size <= self._graph.specs[tensor].num_elements


def _reads_and_makes(
    graph: ModelGraph, stage: Stage, shard: Shard
) -> tuple[Iterable[tuple[str, Region]], Iterable[tuple[str, Piece]]]:
    if not stage.operators:
        return [(tensor, piece.region) for tensor, piece in shard.outputs], shard.outputs
    work = stage_kernels(graph, stage, shard)
    outputs = [
        (tensor, Piece(region, piece.contraction))
        for (tensor, piece), (_, region) in zip(shard.outputs, work.outputs, strict=True)
    ]
    return work.needs, outputs
