"""Layouts: how a stretch is divided over devices; drafts of stages, and the stages made of them.

* ``single``: one device runs the stretch.
* ``rows``: each device owns an interval of every labelled tensor (rows of feature maps, tokens of sequences),
  or a box of a grid. With ``exchange`` a stage ends wherever a device would need more than it owns (halos,
  keys and values); without it the stretch is one stage and what is missing is recomputed.
* ``tensor``: groups run on intervals of their summed-over dim (heads, hidden columns, channels), each ending
  in partial sums; large weights outside of groups are cut along their outputs. ``reduce`` says which device
  adds the partial sums and runs what lies between groups.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal

import msgspec

from edgeflow.graph.ir import Operator
from edgeflow.plan.stage import Piece, Shard, Stage
from edgeflow.planner.analysis import Analysis
from edgeflow.planner.layouts.levels import Owned

Kind = Literal["single", "rows", "tensor"]
Reduce = Literal["direct", "scatter", "star"]


class Layout(msgspec.Struct, frozen=True, gc=False, kw_only=True, cache_hash=True):
    """How a stretch is run.

    Attributes:
        kind: See the module's docstring.
        devices: Ranks that take part.
        shares: Shares of the work, one per device; need not add up to one.
        exchange: For ``rows``: synchronise, rather than recompute.
        labelling: For ``rows`` and ``scatter``: which of `Analysis.labellings` is meant.
        across: For ``rows``: a second labelling, which makes a grid.
        bands: For a grid: numbers of devices that share a band of the first labelling.
        reduce: For ``tensor``. ``direct``: every device adds all partial sums and runs what lies between
            groups in full. ``scatter``: each adds and runs its interval of the labelled dim, and the next
            group gathers (reduce-scatter and all-gather). ``star``: the first device does it alone.
    """

    kind: Kind
    devices: tuple[int, ...]
    shares: tuple[float, ...] = (1.0,)
    exchange: bool = True
    labelling: int = 0
    across: int | None = None
    bands: tuple[int, ...] = ()
    reduce: Reduce = "direct"

    @property
    def label(self) -> str:
        how: str = "tensor-parallel" if self.kind == "tensor" else self.kind
        if self.kind == "tensor" and self.reduce != "direct":
            how += f" ({self.reduce})"
        if self.kind == "rows" and self.across is not None:
            how = "grid"
        if self.kind == "rows" and not self.exchange:
            how += ", halos recomputed"
        count = len(self.devices)
        return f"{how} on {count} devices" if count > 1 else f"{how} on rank {self.devices[0]}"


class Draft(msgspec.Struct, frozen=True, gc=False):
    """A stage with the pieces of all its tensors, by device; `close` keeps only the tensors that leave it."""

    kind: str
    operators: tuple[str, ...]
    pieces: Owned


def single_draft(analysis: Analysis, operators: Sequence[Operator], device: int) -> Draft:
    """Return the draft in which one device computes everything."""
    pieces = {name: Piece(analysis.full(name)) for op in operators for name in op.used_outputs}
    return Draft("single", names_of(operators), {device: pieces})


def drafts_by_level(
    operators: Sequence[Operator],
    levels: Mapping[str, int],
    owned: Owned,
    *,
    kind: Callable[[Sequence[Operator]], str],
) -> list[Draft]:
    """Return one draft per level: its operators, and what the devices own of their results."""
    runs = [[op for op in operators if levels[op.name] == level] for level in sorted(set(levels.values()))]
    return drafts_of_runs(runs, owned, kind=kind)


def drafts_of_runs(
    runs: Iterable[Sequence[Operator]], owned: Owned, *, kind: Callable[[Sequence[Operator]], str]
) -> list[Draft]:
    """Return one draft per run of operators: what the devices own of its results."""
    drafts = []
    for members in runs:
        pieces = {
            device: {name: mine[name] for op in members for name in op.used_outputs if name in mine}
            for device, mine in owned.items()
        }
        busy = {device: mine for device, mine in pieces.items() if mine}
        drafts.append(Draft(kind(members) if len(busy) > 1 else "single", names_of(members), busy))
    return drafts


def close(analysis: Analysis, drafts: Iterable[Draft]) -> tuple[Stage, ...]:
    """Return the named stages, with only the pieces of tensors that leave them.

    A draft without operators hands tensors over; it keeps all of its pieces.
    """
    stages = []
    for index, item in enumerate(drafts):
        leaving = _leaving(analysis, item) if item.operators else None
        shards = []
        for device, pieces in sorted(item.pieces.items()):
            names = pieces if leaving is None else [name for name in leaving if name in pieces]
            if names:
                shards.append(Shard(device, tuple((name, pieces[name]) for name in names)))
        stages.append(Stage(name=f"s{index}", kind=item.kind, operators=item.operators, shards=tuple(shards)))
    return tuple(stages)


def _leaving(analysis: Analysis, item: Draft) -> list[str]:
    graph, inside = analysis.graph, set(item.operators)
    return [
        name
        for op_name in item.operators
        for name in graph.by_name[op_name].used_outputs
        if name in graph.outputs or any(reader.name not in inside for reader in graph.consumers.get(name, ()))
    ]


def names_of(operators: Iterable[Operator]) -> tuple[str, ...]:
    return tuple(op.name for op in operators)


def num_devices_text(stages: Sequence[Stage]) -> str:
    """Return ``"one device"`` or ``"3 devices"``: how many devices the stages use."""
    count = len({shard.device for stage in stages for shard in stage.shards})
    return "one device" if count == 1 else f"{count} devices"
