"""AOFL, DPFP, FlexPie: fuse runs of layers, recomputing halos, and exchange only where that is cheaper.

Dynamic programming over the places of the graph where devices may exchange rows::

    T(j, team) = min over i < j and teams of T(i, team before) + exchange + block i+1 .. j on the team

A block is computed without talking, each device making again what it lacks of its neighbours' rows; its
length is what decides between exchange (short blocks) and recomputation (long ones). Teams are one device,
or several with shares in proportion to how fast they run the model.

Reconstructed, AOFL and DPFP from their abstracts and from memory: the recurrence of AOFL (a fused block's
compute, and the transfers around it) with the two choices of FlexPie at every place, {exchange, recompute}.
FlexPie's argument carries over: the cost of recomputation depends on what follows, so only places of
exchange are states, and the result is optimal for the estimate in use.
Added: unequal devices and shares, teams that change from block to block, any DAG (what lies between two
places need not be a chain), neighbours' rows fetched directly where AOFL gathers at one device.
Left out: FlexPie's other schemes (columns, output channels, grids) and its learnt estimator, DPFP's segments
per device, and re-planning when the network changes. The estimate is that of
`edgeflow.planner.estimates.blocks`: it takes exchanges as barriers; the plan of one
device is therefore weighed too, by the exact prediction. The search is for latency, whatever the objective.

References:
    Zhou, Samavatian, Bacha, Majumdar, Teodorescu, "Adaptive Parallel Execution of Deep Neural Networks on
    Heterogeneous Edge Devices", SEC 2019 (AOFL).
    Li, Iosifidis, Zhang, "Receptive Field-based Segmentation for Distributed CNN Inference Acceleration in
    Collaborative Edge Computing", ICC 2022 (DPFP).
    "FlexPie: Accelerate Distributed Inference on Edge Devices with Flexible Combinatorial Optimization",
    technical report, 2025.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np

from edgeflow.errors import InfeasiblePlanError
from edgeflow.plan.plan import Plan
from edgeflow.planner.estimates.arrays import Floats
from edgeflow.planner.estimates.blocks import Block, Blocks, Team
from edgeflow.planner.layouts.layout import close
from edgeflow.planner.search.alone import best_alone
from edgeflow.planner.search.space import linked_devices
from edgeflow.planner.task import Task, best_of, finish

#: Up to this many devices all subsets are teams.
_MAX_ALL_SUBSETS = 3
_MAX_SINGLES = 8

#: Consecutive blocks: first section, last section, index of the team.
Path = list[tuple[int, int, int]]


def fused(task: Task) -> Plan:
    """Return the plan of fused blocks that is estimated to be the fastest, or that of one device.

    Raises:
        InfeasiblePlanError: If a device cannot hold its part, whichever are left out.
    """
    plans: list[Plan] = []
    failures: list[tuple[str, InfeasiblePlanError]] = []
    try:
        plans.append(best_alone(task))
    except InfeasiblePlanError as error:
        failures.append(("single", error))
    devices = linked_devices(task.cost, task.fastest)
    while len(devices) > 1:
        blocks = blocks_of(task, devices)
        path, _ = least_path(blocks)
        if plans and _is_alone(blocks, path):
            break  # the exact prediction of one device alone is known
        label = _label(blocks, path)
        try:
            stages = close(task.analysis, blocks.drafts(path))
            plans.append(finish(task, stages, strategy="fused", label=label))
            break
        except InfeasiblePlanError as error:
            failures.append((label, error))
            if not error.device:  # it is no device that stands in the way
                break
            devices = tuple(rank for rank in devices if task.cluster.devices[rank].name != error.device)
    return best_of(plans, objective=task.objective, strategy="fused", failures=failures)


def blocks_of(task: Task, devices: Sequence[int]) -> Blocks:
    """Return the blocks that are weighed on these devices, fastest first."""
    analysis = task.analysis
    seconds = _seconds_alone(task)
    teams = [Team((rank,), (1.0,)) for rank in devices[:_MAX_SINGLES]]
    if analysis.labels:
        for members in _teams(devices):
            ranks = tuple(sorted(members))
            teams.append(Team(ranks, tuple(1 / seconds[rank] for rank in ranks)))
    return Blocks(task.strips, teams)


def least_path(blocks: Blocks, *, is_allowed: Callable[[Block], bool] | None = None) -> tuple[Path, float]:
    """Return the consecutive blocks with the least sum of costs, and that sum in seconds.

    Args:
        is_allowed: Which blocks may be used; all by default.
    """
    count, num_teams = len(blocks.sections), len(blocks.teams)
    is_alone = np.array([len(team.devices) == 1 for team in blocks.teams])
    best: list[Floats] = []
    origin: list[list[tuple[int, int]]] = []
    for last in range(count):
        least = np.full(num_teams, np.inf)
        came_from = [(0, -1)] * num_teams
        for block in blocks.ending_at(last):
            if is_allowed is not None and not is_allowed(block):
                continue
            before = best[block.first - 1] if block.first else np.zeros(num_teams)
            # Whatever the exchange costs, this block is no improvement; longer ones still may be.
            if np.all(before.min() + block.seconds >= least):
                if np.all(block.seconds >= least):
                    break
                continue
            options = before[:, None] + blocks.exchange_s(block) + block.seconds
            for team in map(int, np.flatnonzero(options.min(axis=0) < least)):
                source = int(options[:, team].argmin())
                least[team] = options[source, team]
                came_from[team] = (block.first, source if block.first else -1)
            if is_allowed is None and is_alone.all():
                break  # one device repeats nothing: blocks of one section are enough
        best.append(least)
        origin.append(came_from)
    if not count:
        return [], 0.0
    total = best[-1] + blocks.answer_s()
    team, last = int(total.argmin()), count - 1
    path: Path = []
    while last >= 0:
        first, before_team = origin[last][team]
        path.append((first, last, team))
        team, last = before_team, first - 1
    return path[::-1], float(total.min())


def _teams(devices: Sequence[int]) -> list[tuple[int, ...]]:
    """Teams of two and more: all where devices are few, else the fastest 2, 3, 4, 6, 8, 12, ... and all."""
    count = len(devices)
    if count <= _MAX_ALL_SUBSETS:
        return [team for size in range(2, count + 1) for team in combinations(devices, size)]
    sizes = {
        size for power in range(1, 20) for size in (2 << power >> 1, 3 << power >> 1) if 2 <= size < count
    }
    return [tuple(devices[:size]) for size in sorted(sizes | {count})]


def _seconds_alone(task: Task) -> list[float]:
    """Rank -> seconds of all operators that have rows; of all of them where none has."""
    operators = task.graph.operators
    split = [op for op in operators if op.first_output in task.analysis.labels] or operators
    return [
        max(1e-12, sum(task.strips.of(op).seconds[rank, -1] for op in split)) for rank in task.cluster.ranks
    ]


def _is_alone(blocks: Blocks, path: Path) -> bool:
    """Whether one device does everything."""
    return len({device for *_, team in path for device in blocks.teams[team].devices}) <= 1


def _label(blocks: Blocks, path: Path) -> str:
    joint = [(first, last) for first, last, team in path if len(blocks.teams[team].devices) > 1]
    if not joint:
        return "fused: one device"
    recomputed = sum(last - first for first, last in joint)
    return f"fused: {len(joint)} blocks, {recomputed} exchanges saved by recomputation"
