"""Run a strategy on a part of the cluster, and return its plan for the whole cluster.

Most published strategies split over every device that they are given. On many devices the same strategy may
be better on fewer: halos and messages grow with their number, work does not.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from math import inf
from typing import Final

import msgspec

from edgeflow.cluster.part import part_of
from edgeflow.cost.model import CostModel
from edgeflow.errors import ConfigError, InfeasiblePlanError
from edgeflow.plan.plan import Plan
from edgeflow.plan.stage import Stage
from edgeflow.planner.objective import Objective
from edgeflow.planner.search.space import nearest
from edgeflow.planner.task import Strategy, Task, finish

#: Numbers of devices to try, and at most how many of them.
_SIZES: Final = (16, 12, 8, 6, 4, 3, 2)
_MAX_PARTS: Final = 4


def parts(task: Task, best: Plan, made: Plan) -> Iterator[tuple[int, ...]]:
    """Yield ever fewer of the nearest devices, while a plan on them could still be the best so far.

    It could not if the work divided over devices that are never idle takes longer, together with the
    strategy's overhead (messages and waiting) scaled down in proportion to the devices. The device where
    requests arrive is always among them: without it, the part would have another source.

    Args:
        best: The best plan so far, of any strategy.
        made: The strategy's own plan on all devices; only fewer devices than it uses are tried.
    """
    source = task.cluster.source_rank
    order = (source, *(rank for rank in nearest(task) if rank != source))
    used, limit_s = len(made.devices), _seconds(task.objective, best)
    beside_s = (
        max(0.0, _seconds(task.objective, made) - _least_s(task, made.devices)) if limit_s < inf else 0.0
    )
    for size in [size for size in _SIZES if size < used][:_MAX_PARTS]:
        part = tuple(sorted(order[:size]))
        if _least_s(task, part) + beside_s * size / used >= limit_s:
            return
        yield part


def on_part(task: Task, ranks: Collection[int], strategy: Strategy) -> Plan:
    """Return a strategy's plan on these devices alone, as a plan for the whole cluster.

    Raises:
        InfeasiblePlanError: If their memory does not hold it, or they are not connected.
    """
    ordered = sorted(ranks)
    names = [task.cluster.devices[rank].name for rank in ordered]
    try:
        cluster = part_of(task.cluster, names)
    except ConfigError as error:
        raise InfeasiblePlanError(str(error), constraint="link") from error
    cost: CostModel = msgspec.structs.replace(
        task.cost,
        cluster=cluster,
        corrections={name: item for name, item in task.cost.corrections.items() if name in names},
    )
    made = strategy(task.part(cluster, cost, ordered))
    first, *others = (tuple(_moved(stage, ordered) for stage in way.stages) for way in made.ways)
    label = f"{made.chosen}, on {len(ordered)} devices"
    return finish(task, first, strategy=made.strategy, label=label, replicas=tuple(others))


def _least_s(task: Task, ranks: tuple[int, ...]) -> float:
    """Return the seconds of the graph divided between devices that are never idle."""
    rates = [1 / task.alone_s[rank] if task.alone_s[rank] else inf for rank in ranks]
    return 1 / sum(rates)


def _seconds(objective: Objective, plan: Plan) -> float:
    """Return the figure that the objective minimises if speed determines it; infinite otherwise."""
    match objective.kind:
        case "latency":
            return plan.predicted_latency_s
        case "throughput":
            return plan.predicted_period_s
    return inf


def _moved(stage: Stage, ranks: list[int]) -> Stage:
    """Return the stage with its devices' ranks in the whole cluster."""
    return msgspec.structs.replace(
        stage,
        shards=tuple(msgspec.structs.replace(shard, device=ranks[shard.device]) for shard in stage.shards),
        claimants=tuple(ranks[rank] for rank in stage.claimants),
    )
