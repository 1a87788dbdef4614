"""Stages, shards and pieces: the parts of a plan, frozen data.

Inside a stage there is no communication; between stages one rule moves everything, see
`edgeflow.plan.lower`.
"""

from __future__ import annotations

import msgspec

from edgeflow.sharding.region import Interval, Region


class Piece(msgspec.Struct, frozen=True, gc=False, cache_hash=True):
    """What one device makes of one tensor.

    Attributes:
        region: The box that the device computes and then owns.
        contraction: If set, the box holds a *partial* sum over this interval of the summed-over dim of the
            operator that makes the tensor; the whole is the sum over the devices' pieces.
    """

    region: Region
    contraction: Interval | None = None


class Shard(msgspec.Struct, frozen=True, gc=False):
    """The part of one device in a stage.

    Attributes:
        device: Rank: position in `Cluster.devices`.
        outputs: Tensor name -> what the device makes of it, for every tensor that leaves the stage and of
            which this device owns something. A tensor may have several pieces (borders that others need);
            their hull is made, and only they are kept. A partial sum is one piece.
    """

    device: int
    outputs: tuple[tuple[str, Piece], ...]

    def piece(self, tensor: str) -> Piece | None:
        """The first piece of a tensor; the only one, where it holds a partial sum."""
        for name, piece in self.outputs:
            if name == tensor:
                return piece
        return None


class Stage(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """A convex set of operators, run without communication.

    Attributes:
        name: Unique in the plan; for people and traces.
        kind: How it is cut, for people: ``rows``, ``tensor-parallel``, ``replicate``, ``single``,
            ``reduce`` ...
        operators: Names, in topological order. Empty when the stage only re-partitions (for instance a
            reduce-scatter): then each shard receives its pieces of existing tensors and owns them from
            there on, and nobody else has them any longer.
        shards: One per device that takes part; several of one device (tiles, for instance) run one after
            another, each with its own memory.
        claimants: If any, the shards are tasks: each is run by whichever of these devices asks for one
            first, and `Shard.device` says only who is expected to. The client hands them out, in order, so
            such a stage reads nothing but inputs of the graph.

    An operator may stand in several stages, each of which makes other parts of what it makes.
    """

    name: str
    kind: str
    operators: tuple[str, ...]
    shards: tuple[Shard, ...]
    claimants: tuple[int, ...] = ()

    @property
    def devices(self) -> tuple[int, ...]:
        """Ranks that take part, each once, in the order of first mention."""
        return self.claimants or tuple(dict.fromkeys(shard.device for shard in self.shards))

    @property
    def outputs(self) -> tuple[str, ...]:
        """Every tensor that leaves the stage, each once, in the order of first mention."""
        return tuple(dict.fromkeys(name for shard in self.shards for name, _ in shard.outputs))
