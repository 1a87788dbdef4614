"""Stages, shards and pieces: the parts of a plan, frozen data.

Inside a stage there is no communication; between stages one rule moves everything, see
`edgeflow.plan.lower`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from edgeflow.sharding.region import Interval, Region

#: Kind of stage -> how it is cut, in words. Strategies use these; stages written by hand may have others.
KINDS: Final[Mapping[str, str]] = {
    "single": "on one device",
    "rows": "cut by rows or tokens",
    "tiles": "cut into tiles of a grid",
    "columns": "cut by output features",
    "channels": "cut by channels",
    "tensor": "cut by heads, channels or hidden columns; partial sums added",
    "replicate": "the same on every device",
    "gather": "gathered on one device",
    "reduce": "re-partitioned",
}


class Piece(msgspec.Struct, frozen=True, gc=False, cache_hash=True):
    """The part of one tensor that one device makes.

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
        outputs: (tensor, piece) for every tensor that leaves the stage and of which this device owns a part.
            A tensor may have several pieces (borders that others need): the device computes their hull and
            keeps the pieces alone. A partial sum is one piece.
    """

    device: int
    outputs: tuple[tuple[str, Piece], ...]

    def piece(self, tensor: str) -> Piece | None:
        """Return the first piece of a tensor (the only one of a partial sum), or None."""
        for name, piece in self.outputs:
            if name == tensor:
                return piece
        return None


class Stage(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """A convex set of operators, run without communication.

    Attributes:
        name: Unique in the plan; for people and traces.
        kind: How it is cut, for people: one of `KINDS`, unless the stage was written by hand. Nothing that
            runs depends on it.
        operators: Names, in topological order. Empty when the stage only re-partitions (a gather or a
            reduce-scatter, for instance): then each shard receives its pieces of existing tensors, and from
            there on their new owners alone hold these tensors.
        shards: Usually one per device that takes part. Several shards of one device (tiles, for instance)
            run one after another, each with its own memory.
        claimants: If any, the shards are tasks, which these devices claim while the stage runs: a task goes
            to the next claimant that asks for one, and `Shard.device` names only the expected one. The
            client hands tasks out, in order, so such a stage reads only inputs of the graph.

    An operator may stand in several stages, each of which makes a different part of its outputs.
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
