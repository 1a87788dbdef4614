"""From "this stretch, this way, on these devices" to stages: the builders that every strategy shares.

* ``single``: one device runs the stretch.
* ``rows``: each device owns an interval of every labelled tensor (rows of feature maps, tokens of
  sequences). With ``exchange`` a stage ends wherever a device would need more than it owns (halos, keys and
  values); without it the stretch is one stage and what is missing is recomputed.
* ``tensor``: groups run on intervals of their summed-over dim (heads, hidden columns), each ending in
  partial sums; large weights outside of groups are cut along their outputs; everything else is replicated.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import msgspec
import networkx as nx

from edgeflow.graph.ir import Operator
from edgeflow.plan.stage import Piece, Shard, Stage
from edgeflow.planner.analysis import Analysis, Group, Labels, first_output
from edgeflow.sharding.region import Interval, split_interval

Kind = Literal["single", "rows", "tensor"]

#: Operators outside of groups with at least this share of the graph's FLOPs are cut along their outputs.
_MIN_COLUMN_SHARE = 5e-3


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """How a stretch is run.

    Attributes:
        kind: See the module's docstring.
        devices: Ranks that take part.
        shares: Of the work, one per device; need not add up to one.
        exchange: For ``rows``: synchronise, rather than recompute.
        labelling: For ``rows``: which of `Analysis.labellings` is meant.
    """

    kind: Kind
    devices: tuple[int, ...]
    shares: tuple[float, ...] = (1.0,)
    exchange: bool = True
    labelling: int = 0

    @property
    def label(self) -> str:
        how = {"single": "single", "tensor": "tensor-parallel", "rows": "rows"}[self.kind]
        if self.kind == "rows" and not self.exchange:
            how = "rows, halos recomputed"
        return (
            f"{how} on {len(self.devices)} devices"
            if len(self.devices) > 1
            else f"{how} on rank {self.devices[0]}"
        )


class Draft(msgspec.Struct, frozen=True):
    """A stage before it is known which of its tensors leave it: pieces of all of them, by device."""

    kind: str
    operators: tuple[str, ...]
    pieces: Mapping[int, Mapping[str, Piece]]


def draft(analysis: Analysis, operators: Sequence[Operator], layout: Layout) -> list[Draft]:
    """Return the stages of a stretch, in order."""
    if layout.kind == "single":
        return [_single(analysis, operators, layout.devices[0])]
    if layout.kind == "rows":
        return _rows(analysis, operators, layout)
    return _tensor(analysis, operators, layout)


def close(analysis: Analysis, drafts: Iterable[Draft]) -> tuple[Stage, ...]:
    """Name the stages and keep only pieces of tensors that leave them."""
    graph = analysis.graph
    stages = []
    for index, item in enumerate(drafts):
        inside = set(item.operators)
        leaving = [
            name
            for op_name in item.operators
            for name in graph.by_name[op_name].outputs
            if name
            and (
                name in graph.outputs
                or any(reader.name not in inside for reader in graph.consumers.get(name, ()))
            )
        ]
        shards = []
        for device, pieces in sorted(item.pieces.items()):
            kept = tuple((name, pieces[name]) for name in leaving if name in pieces)
            if kept:
                shards.append(Shard(device, kept))
        stages.append(Stage(name=f"s{index}", kind=item.kind, operators=item.operators, shards=tuple(shards)))
    return tuple(stages)


def _names(operators: Iterable[Operator]) -> tuple[str, ...]:
    return tuple(op.name for op in operators)


def _outputs(op: Operator) -> tuple[str, ...]:
    return tuple(name for name in op.outputs if name)


def _single(analysis: Analysis, operators: Sequence[Operator], device: int) -> Draft:
    pieces = {name: Piece(analysis.full(name)) for op in operators for name in _outputs(op)}
    return Draft("single", _names(operators), {device: pieces})


# Rows


def _rows(analysis: Analysis, operators: Sequence[Operator], layout: Layout) -> list[Draft]:
    labels = analysis.labellings[layout.labelling] if analysis.labellings else {}
    owned = _owned_rows(analysis, operators, layout, labels)
    levels = _row_levels(analysis, operators, owned, labels if not layout.exchange else {})
    drafts = []
    for level in sorted(set(levels.values())):
        members = [op for op in operators if levels[op.name] == level]
        pieces = {
            device: {name: mine[name] for op in members for name in _outputs(op) if name in mine}
            for device, mine in owned.items()
        }
        devices = [device for device, mine in pieces.items() if mine]
        kind = "rows" if len(devices) > 1 else "single"
        drafts.append(Draft(kind, _names(members), {device: pieces[device] for device in devices}))
    return drafts


def _owned_rows(
    analysis: Analysis, operators: Sequence[Operator], layout: Layout, labels: Labels
) -> dict[int, dict[str, Piece]]:
    """Device -> what it owns of every tensor of the stretch."""
    feeding = _feeding_labelled(analysis, operators, labels)
    fastest = layout.devices[max(range(len(layout.devices)), key=lambda i: (layout.shares[i], -i))]
    owned: dict[int, dict[str, Piece]] = {device: {} for device in layout.devices}
    for op in operators:
        for name in _outputs(op):
            full = analysis.full(name)
            if name in labels:
                dim = labels[name]
                for device, interval in zip(layout.devices, _bounds(full[dim].length, layout), strict=True):
                    if interval.length:
                        owned[device][name] = Piece(full.replace(dim, interval))
            elif analysis.sums_along(op, labels):
                source = next(item for item in op.inputs if item in labels)
                size = analysis.graph.specs[source].shape[labels[source]]
                for device, interval in zip(layout.devices, _bounds(size, layout), strict=True):
                    if interval.length:
                        owned[device][name] = Piece(full, interval)
            elif op.name in feeding:
                for device in layout.devices:
                    owned[device][name] = Piece(full)
            else:
                owned[fastest][name] = Piece(full)
    return owned


def _bounds(size: int, layout: Layout) -> tuple[Interval, ...]:
    return split_interval(size, layout.shares)


def _feeding_labelled(analysis: Analysis, operators: Sequence[Operator], labels: Labels) -> set[str]:
    """Unlabelled operators on which a labelled one of the stretch depends: every device needs them."""
    wanted: set[str] = set()
    feeding: set[str] = set()
    for op in reversed(operators):
        if first_output(op) in labels or any(name in wanted for name in op.outputs):
            if first_output(op) not in labels:
                feeding.add(op.name)
            wanted.update(name for name in op.inputs if name not in labels)
    return feeding


def _row_levels(
    analysis: Analysis,
    operators: Sequence[Operator],
    owned: Mapping[int, Mapping[str, Piece]],
    recomputed: Labels,
) -> dict[str, int]:
    """Operator -> number of synchronisations before it inside the stretch.

    Operators that make ``recomputed`` tensors make what they lack of their inputs again; others wait.
    """
    levels: dict[str, int] = {}
    level_of_tensor: dict[str, int] = {}
    for op in operators:
        level = 0
        for tensor in analysis.graph.activation_inputs(op):
            if tensor in level_of_tensor:
                level = max(
                    level, level_of_tensor[tensor] + _must_wait(analysis, op, tensor, owned, recomputed)
                )
        levels[op.name] = level
        for name in _outputs(op):
            level_of_tensor[name] = level
    return levels


def _must_wait(
    analysis: Analysis,
    op: Operator,
    tensor: str,
    owned: Mapping[int, Mapping[str, Piece]],
    recomputed: Labels,
) -> bool:
    """Whether some device needs of ``tensor`` what it does not own, and may not recompute."""
    for mine in owned.values():
        here = mine.get(tensor)
        if here is not None and here.contraction is not None:
            return True
        piece = mine.get(first_output(op))
        if piece is None or first_output(op) in recomputed:
            continue
        need = analysis.cutter.cut(op, piece.region, piece.contraction).needs.get(tensor)
        if need is None:
            continue
        if here is None or not here.region.contains(need):
            return True
    return False


# Tensor parallel


def _tensor(analysis: Analysis, operators: Sequence[Operator], layout: Layout) -> list[Draft]:
    inside = {op.name for op in operators}
    groups = {
        name: group
        for group in analysis.groups
        if inside.issuperset(group.operators)
        for name in group.operators
    }
    columns = {
        op.name: dim
        for op in operators
        if op.name not in groups
        and analysis.flops[op.name] >= _MIN_COLUMN_SHARE * analysis.total_flops
        and (dim := analysis.column_dim(op)) is not None
    }
    groups = _without_lonely(groups, columns, analysis)
    levels = _tensor_levels(analysis, operators, groups, columns)
    drafts = []
    for level in sorted(set(levels.values())):
        members = [op for op in operators if levels[op.name] == level]
        pieces = {
            device: _tensor_pieces(analysis, members, groups, columns, layout, index)
            for index, device in enumerate(layout.devices)
        }
        is_split = any(op.name in groups or op.name in columns for op in members)
        drafts.append(Draft("tensor" if is_split else "replicate", _names(members), pieces))
    return drafts


def _without_lonely(
    groups: dict[str, Group], columns: dict[str, int], analysis: Analysis
) -> dict[str, Group]:
    """A group of one operator sums what a split of its outputs need not: cut its columns instead."""
    kept = {}
    for name, group in groups.items():
        if len(group.operators) == 1:
            dim = analysis.column_dim(analysis.graph.by_name[name])
            if dim is not None:
                columns[name] = dim
                continue
        kept[name] = group
    return kept


def _tensor_levels(
    analysis: Analysis,
    operators: Sequence[Operator],
    groups: Mapping[str, Group],
    columns: Mapping[str, int],
) -> dict[str, int]:
    """Longest path over operators, each group one vertex; results that are split cost one step."""
    graph = analysis.graph
    inside = {op.name for op in operators}
    vertex = {op.name: groups[op.name].root if op.name in groups else op.name for op in operators}
    dag: nx.DiGraph = nx.DiGraph()
    dag.add_nodes_from(dict.fromkeys(vertex.values()))
    for op in operators:
        for tensor in graph.activation_inputs(op):
            producer = graph.producer.get(tensor)
            if producer is None or producer.name not in inside:
                continue
            source, target = vertex[producer.name], vertex[op.name]
            if source != target:
                split = source in groups or source in columns
                wait = max(int(split), dag.edges.get((source, target), {}).get("wait", 0))
                dag.add_edge(source, target, wait=wait)
    level = dict.fromkeys(dag, 0)
    for name in nx.topological_sort(dag):
        for target in dag.successors(name):
            level[target] = max(level[target], level[name] + dag.edges[name, target]["wait"])
    return {name: level[target] for name, target in vertex.items()}


def _tensor_pieces(
    analysis: Analysis,
    members: Sequence[Operator],
    groups: Mapping[str, Group],
    columns: Mapping[str, int],
    layout: Layout,
    index: int,
) -> dict[str, Piece]:
    pieces = {}
    for op in members:
        for name in _outputs(op):
            full = analysis.full(name)
            if op.name in columns:
                dim = columns[op.name]
                interval = split_interval(full[dim].length, layout.shares)[index]
                if interval.length:
                    pieces[name] = Piece(full.replace(dim, interval))
            elif op.name not in groups:
                pieces[name] = Piece(full)
            elif groups[op.name].root == op.name:
                group = groups[op.name]
                interval = split_interval(group.size, layout.shares, multiple=group.multiple)[index]
                if interval.length:
                    pieces[name] = Piece(full, interval)
    return pieces
