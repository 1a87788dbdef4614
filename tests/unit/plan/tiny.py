"""Tiny graphs, and stages on them written by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor, nn

from edgeflow.cluster.cluster import Cluster
from edgeflow.graph.capture import capture
from edgeflow.graph.ir import ModelGraph
from edgeflow.plan import Decision, Piece, Plan, Shard, Stage, Weighed
from edgeflow.plan.program import Program, Send
from edgeflow.sharding.region import Interval, Region


@cache
def convs(*kernels: int, height: int = 8) -> ModelGraph:
    """Convolutions that keep the shape ``(1, 1, height, 4)``: ``input``, ``conv2d``, ``conv2d_1`` ..."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 1, kernel, padding=kernel // 2) for kernel in kernels]
    return capture(nn.Sequential(*layers).eval(), (torch.randn(1, 1, height, 4),))


@cache
def mlp() -> ModelGraph:
    """``input`` ``(2, 4)``, ``linear`` ``(2, 6)``, ``relu``, ``linear_1`` ``(2, 4)``, ``relu_1``."""
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 4), nn.ReLU())
    return capture(layers.eval(), (torch.randn(2, 4),))


class _Fork(nn.Module):
    """One tensor with two readers."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = x.relu()
        return y.sin(), y.cos()


@cache
def fork() -> ModelGraph:
    """``x`` ``(4,)``, ``relu``, and out of it ``sin`` and ``cos``, both answers."""
    return capture(_Fork(), (torch.randn(4),))


#: Device -> tensor -> piece.
Owned = dict[int, dict[str, Piece]]
#: Device -> ``(start, stop)``.
Bounds = Mapping[int, tuple[int, int]]


def whole(graph: ModelGraph, tensor: str, *devices: int) -> Owned:
    """All of a tensor on each device."""
    return {device: {tensor: Piece(_full(graph, tensor))} for device in devices}


def cut(graph: ModelGraph, tensor: str, dim: int, bounds: Bounds) -> Owned:
    """A tensor cut along one dim."""
    full = _full(graph, tensor)
    return {device: {tensor: Piece(full.replace(dim, Interval(*b)))} for device, b in bounds.items()}


def summed(graph: ModelGraph, tensor: str, bounds: Bounds) -> Owned:
    """Partial sums of a whole tensor."""
    full = _full(graph, tensor)
    return {device: {tensor: Piece(full, Interval(*b))} for device, b in bounds.items()}


def _full(graph: ModelGraph, tensor: str) -> Region:
    return Region.full(graph.specs[tensor].shape)


def stage(name: str, operators: Sequence[str], owned: Owned) -> Stage:
    """A stage out of what each device owns after it."""
    shards = tuple(Shard(device, tuple(pieces.items())) for device, pieces in owned.items())
    return Stage(name=name, kind="by hand", operators=tuple(operators), shards=shards)


def plan(graph: ModelGraph, *stages: Stage, cluster: Cluster | None = None) -> Plan:
    return Plan(
        Decision(graph=graph, cluster=cluster or Cluster.local([1.0] * 4), stages=stages),
        Weighed(strategy="by hand"),
    )


class Transfer(NamedTuple):
    """A frame: who sends what to whom."""

    source: int
    peer: int
    tensor: str
    region: str
    num_bytes: int


def transfers(programs: Mapping[int, Program]) -> list[Transfer]:
    """Every frame, in the order of tags: the order in which they were found to be needed."""
    found = [
        (item.tag, Transfer(rank, item.peer, item.tensor, str(item.region), item.num_bytes))
        for rank, program in programs.items()
        for item in program.instructions
        if isinstance(item, Send)
    ]
    return [transfer for _, transfer in sorted(found)]


def between_devices(programs: Mapping[int, Program]) -> list[Transfer]:
    """Frames that neither come from the client nor go there."""
    return [item for item in transfers(programs) if min(item.source, item.peer) >= 0]


_BOTH = ("conv2d", "conv2d_1")
_ROWS = Region.full((1, 1, 8, 4))


def strips(count: int, *claimants: int, operators: tuple[str, ...] = _BOTH) -> Stage:
    """Rows of what the last operator makes, in tasks of about equal height."""
    rows = [Interval(8 * task // count, 8 * (task + 1) // count) for task in range(count)]
    shards = tuple(Shard(claimants[0], ((operators[-1], Piece(_ROWS.replace(2, row))),)) for row in rows)
    return Stage(name="tasks", kind="tiles", operators=operators, shards=shards, claimants=claimants)


def claimed(count: int, *claimants: int, collector: int = 0, cluster: Cluster | None = None) -> Plan:
    """Two convolutions in tasks, a third one on one device, which may be a claimant or not."""
    graph = convs(3, 3, 3)
    last = stage("rest", ["conv2d_2"], whole(graph, "conv2d_2", collector))
    return plan(graph, strips(count, *claimants), last, cluster=cluster)
