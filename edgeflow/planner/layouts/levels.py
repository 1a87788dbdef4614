"""Where a stretch must synchronise, given what devices own: the least number of stages, by longest paths."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from graphlib import TopologicalSorter

from edgeflow.graph.ir import Operator
from edgeflow.plan.stage import Piece, Shard, Stage
from edgeflow.plan.stage_kernels import stage_kernels
from edgeflow.planner.analysis import Analysis
from edgeflow.sharding.region import Region

#: Device -> tensor -> what the device makes of it and then owns.
Owned = Mapping[int, Mapping[str, Piece]]


def levels(
    analysis: Analysis,
    operators: Sequence[Operator],
    owned: Owned,
    *,
    recomputed: Container[str] = (),
    units: Mapping[str, tuple[str, ...]] | None = None,
) -> dict[str, int]:
    """Return for each operator the number of synchronisations before it inside the stretch.

    An operator waits for a tensor that some device needs more of than it owns, or has as a partial sum.

    Args:
        recomputed: Tensors whose operators never wait: what a device lacks of their inputs is recomputed.
        units: Operator -> all operators, in order, that must share its stage, itself included.
    """
    members = {op.name: (op.name,) for op in operators} | dict(units or {})
    producer = analysis.graph.producer
    #: Unit -> the units that it reads from, and whether it waits for them.
    sources: dict[tuple[str, ...], dict[tuple[str, ...], bool]] = {}
    for unit in dict.fromkeys(members[op.name] for op in operators):
        before = sources[unit] = {}
        is_free = any(name in recomputed for name in analysis.graph.by_name[unit[-1]].outputs)
        needs = {} if is_free else {device: _needs(analysis, unit, mine) for device, mine in owned.items()}
        for tensor in _reads(analysis, unit):
            source = members.get(producer[tensor].name) if tensor in producer else None
            if source is not None and source != unit and not before.get(source):
                before[source] = _must_wait(tensor, needs, owned)
    level: dict[tuple[str, ...], int] = {}
    for unit in TopologicalSorter(sources).static_order():
        level[unit] = max((level[source] + wait for source, wait in sources[unit].items()), default=0)
    return {op.name: level[members[op.name]] for op in operators}


def _reads(analysis: Analysis, unit: tuple[str, ...]) -> tuple[str, ...]:
    """Activations that a unit reads and does not make."""
    graph = analysis.graph
    made = {name for member in unit for name in graph.by_name[member].outputs}
    read = (name for member in unit for name in graph.activation_inputs(graph.by_name[member]))
    return tuple(name for name in dict.fromkeys(read) if name not in made)


def _needs(analysis: Analysis, unit: tuple[str, ...], mine: Mapping[str, Piece]) -> Mapping[str, Region]:
    """Return what one device needs from outside to compute what it owns of a unit's results."""
    op = analysis.graph.by_name[unit[-1]]
    outputs = tuple((name, mine[name]) for name in op.outputs if name in mine)
    if not outputs:
        return {}
    if len(unit) == 1:
        return analysis.cutter.needs(op, outputs[0][1].region, outputs[0][1].contraction)
    stage = Stage(name="", kind="", operators=unit, shards=())
    return dict(stage_kernels(analysis.graph, stage, Shard(0, outputs)).needs)


def _must_wait(tensor: str, needs: Mapping[int, Mapping[str, Region]], owned: Owned) -> bool:
    """Return whether ``tensor`` is a partial sum, or a device needs more of it than it owns."""
    for device, mine in owned.items():
        here = mine.get(tensor)
        if here is not None and here.contraction is not None:
            return True
        need = needs[device].get(tensor) if needs else None
        if need is not None and (here is None or not here.region.contains(need)):
            return True
    return False
