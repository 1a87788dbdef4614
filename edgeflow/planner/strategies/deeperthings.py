"""DeeperThings: convolutions split by channels over all devices, in pairs where that spares an exchange.

Each convolution runs in one of four ways. *Output* (LOP): each device makes some of its output channels and
reads the whole input. *Input* (LIP): each reads some of the input channels and makes partial sums of the
whole output. *Pair* (FUSE1 and FUSE2): output channels of one convolution are the input channels of the
next, and nothing is exchanged in between. What is gathered, summed and handed out goes by way of the
gateway, the device where requests arrive, which also runs everything else: pools, sums, fully connected
layers. Only two convolutions by output, or one and a pair, that follow each other exchange channels
directly.

The choice is the least number of bytes between N devices, for layers of ``M`` bytes read and ``K`` made:

    output                  (N-1) M + (N-1)/N K
    output, reused by next  (N-1) M + (N-1) K, and the next reads its M for nothing
    input                   (N-1)/N M + (N-1) K
    pair                    (N-1) M of the first + (N-1) K of the second

The paper solves an integer programme; here it is dynamic programming along chains of convolutions that
follow each other, which is the same minimum, since no term joins layers that do not. Channels are shared
out in proportion to speed; the paper's devices, and the objective, are equal. Left out: tiles for the early
layers (they are in `deepthings`). In graphs that are not chains a convolution whose result is read by
several, or by anything but a convolution, ends a chain; grouped ones, which cannot be summed in part, are
only split by output. Formulas follow the authors' published script.

References:
    Stahl, Hoffman, Mueller-Gritschneder, Gerstlauer, Schlichtmann, "DeeperThings: Fully Distributed CNN
    Inference on Resource-Constrained Edge Devices", International Journal of Parallel Programming 49, 2021.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Final, Literal

import msgspec

from edgeflow.graph.ir import Operator
from edgeflow.plan.plan import Plan
from edgeflow.plan.stage import Piece
from edgeflow.planner.analysis import Analysis
from edgeflow.planner.layouts.hub import (
    Layer,
    drafts_around,
    gathered,
    is_convolution,
    sole_reader,
    with_followers,
)
from edgeflow.planner.layouts.layout import Draft, close, names_of
from edgeflow.planner.layouts.partition import along
from edgeflow.planner.task import Task, finish
from edgeflow.sharding.region import split_interval
from edgeflow.sharding.rules import contraction_size

#: ``reused``: by output, and what follows takes its channels from the devices that made them.
Split = Literal["output", "reused", "input", "first", "second"]

_SPLITS: Final[tuple[Split, ...]] = ("output", "reused", "input", "first", "second")

_CHANNELS: Final = 1


class Convolution(msgspec.Struct, frozen=True):
    """A convolution of a chain.

    Attributes:
        members: It and what follows it elementwise.
        read_bytes, made_bytes: Bytes of its input and output.
        may_sum: Whether partial sums over its input channels can be made.
    """

    members: tuple[Operator, ...]
    read_bytes: int
    made_bytes: int
    may_sum: bool


#: Split of the last convolution so far -> the least bytes, and the splits of all convolutions so far.
_Best = dict[Split | None, tuple[Fraction, tuple[Split, ...]]]

#: Convolutions of which each alone reads what the one before makes.
Chain = tuple[Convolution, ...]


def deeperthings(task: Task) -> Plan:
    """Return the plan of channel splits with the least bytes.

    Raises:
        InfeasiblePlanError: If a device cannot hold its part, or has no link to another.
    """
    analysis, hub = task.analysis, task.cluster.source_rank
    count = len(task.cluster.devices)
    layers: dict[str, Layer] = {}
    if count > 1:
        for chain in chains(analysis):
            splits, _ = cheapest(chain, count)
            layers |= {layer[0][0].name: layer for layer in _layers(task, chain, splits)}
    stages = close(analysis, drafts_around(analysis, hub, lambda op: layers.get(op.name)))
    return finish(task, stages, strategy="deeperthings", label=f"deeperthings channels on {count} devices")


def chains(analysis: Analysis) -> tuple[Chain, ...]:
    """Return the convolutions that can be split by output channels, in chains."""
    found: list[list[Convolution]] = []
    ends: dict[str, list[Convolution]] = {}
    for op in analysis.graph.operators:
        if not is_convolution(op) or len(analysis.graph.activation_inputs(op)) != 1:
            continue
        if analysis.column_dim(op) != _CHANNELS:
            continue
        item = _convolution(analysis, op)
        chain = ends.pop(op.name, None)
        if chain is None:
            chain = []
            found.append(chain)
        chain.append(item)
        follower = sole_reader(analysis, item.members[-1].output)
        if follower is not None:
            ends[follower.name] = chain
    return tuple(tuple(chain) for chain in found)


def _convolution(analysis: Analysis, op: Operator) -> Convolution:
    specs = analysis.graph.specs
    (source,) = analysis.graph.activation_inputs(op)
    return Convolution(
        members=with_followers(analysis, op, _CHANNELS),
        read_bytes=specs[source].num_bytes,
        made_bytes=specs[op.output].num_bytes,
        may_sum=contraction_size(op, specs) is not None,
    )


def cheapest(chain: Chain, count: int) -> tuple[tuple[Split, ...], Fraction]:
    """Return how each convolution of a chain is split with the least bytes between ``count`` devices.

    Returns:
        A split for each convolution, and the bytes, exactly.
    """
    best: _Best = {}
    for index, item in enumerate(chain):
        is_last = index + 1 == len(chain)
        steps: _Best = {}
        before: _Best = best or {None: (Fraction(0), ())}
        for split in _SPLITS:
            if is_last and split in ("reused", "first"):
                continue
            options = [
                (total + _bytes(item, split, previous, count), (*splits, split))
                for previous, (total, splits) in before.items()
                if _may_follow(item, split, previous)
            ]
            if options:
                steps[split] = min(options, key=lambda option: option[0])
        best = steps
    total, splits = min(best.values(), key=lambda option: option[0])
    return splits, total


def _may_follow(item: Convolution, split: Split, previous: Split | None) -> bool:
    if (split == "second") != (previous == "first"):
        return False
    if split in ("input", "second") and not item.may_sum:
        return False
    return previous != "reused" or split != "input"


def _bytes(item: Convolution, split: Split, previous: Split | None, count: int) -> Fraction:
    """Return the bytes that one convolution adds to the objective; see the module's docstring."""
    others, part = count - 1, Fraction(count - 1, count)
    handed_out = 0 if previous == "reused" else others * item.read_bytes
    match split:
        case "output":
            return handed_out + part * item.made_bytes
        case "reused":
            return Fraction(handed_out + others * item.made_bytes)
        case "input":
            return part * item.read_bytes + others * item.made_bytes
        case "first":
            return Fraction(handed_out)
        case "second":
            return Fraction(others * item.made_bytes)


def _layers(task: Task, chain: Chain, splits: Sequence[Split]) -> Iterator[Layer]:
    """The stages of a chain."""
    hub = task.cluster.source_rank
    first: tuple[Operator, ...] = ()
    for item, split in zip(chain, splits, strict=True):
        if split == "first":
            first = item.members
            continue
        if split in ("output", "reused"):
            made = item.members[-1].output
            stages = [_by_output(task, item)]
            members = item.members
        else:
            made = item.members[0].output
            members = (*first, item.members[0])
            stages = [_by_input(task, members)]
        first = ()
        if split != "reused":
            stages.append(gathered(task.analysis, made, hub))
        yield members, stages


def _by_output(task: Task, item: Convolution) -> Draft:
    """Each device makes an interval of the output channels, and what follows elementwise."""
    tensor, ranks = item.members[-1].output, task.cluster.ranks
    full = task.analysis.full(tensor)
    boxes = along(full, _CHANNELS, ranks, split_interval(full[_CHANNELS].length, task.speeds))
    pieces = {rank: {tensor: Piece(box)} for rank, box in boxes.items()}
    return Draft("channels", names_of(item.members), pieces)


def _by_input(task: Task, members: tuple[Operator, ...]) -> Draft:
    """Each device makes the partial sums of an interval of the last convolution's input channels."""
    root = members[-1]
    full, size = task.analysis.full(root.output), contraction_size(root, task.graph.specs)
    assert size is not None, f"{root.name} cannot be summed in part"
    pieces: Mapping[int, Mapping[str, Piece]] = {
        rank: {root.output: Piece(full, interval)}
        for rank, interval in zip(task.cluster.ranks, split_interval(size, task.speeds), strict=True)
        if interval.length
    }
    return Draft("channels", names_of(members), pieces)
