"""The dynamic programme of `edgeflow.planner.strategies.pipeline`: contiguous stages, one device each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Final

import msgspec
import numpy as np

from edgeflow.plan.program import CLIENT
from edgeflow.plan.stage import Piece
from edgeflow.planner.layouts.layout import Layout
from edgeflow.planner.search.dynamic import Search
from edgeflow.planner.task import Task

#: The programme's states are sets of used types, times last types, times stretches.
_MAX_SETS: Final = 256

Matrix = np.ndarray[tuple[int, int], np.dtype[np.float64]]
Vector = np.ndarray[tuple[int], np.dtype[np.float64]]


class PipelineStage(msgspec.Struct, frozen=True):
    """Stretches ``[start, stop)`` on one device."""

    start: int
    stop: int
    rank: int


class _Costs(msgspec.Struct, frozen=True):
    """Costs of stages and hand-overs by device type.

    Attributes:
        seconds, joules: ``[kind][i, j]``: of stretches ``[i, j)``; infinite where they do not fit.
        hand_s, hand_j: ``[last][kind][i]``: of the hand-over in front of stretch i.
    """

    seconds: list[Matrix]
    joules: list[Matrix]
    hand_s: dict[int, list[Vector]]
    hand_j: dict[int, list[Vector]]


class PipelineProgramme:
    """For each set of used types and last type: the least costs by the number of stretches done."""

    def __init__(self, task: Task, reserved: Mapping[int, int]) -> None:
        self._task = task
        self._types = types_of(task)
        ranks = [members[0] for members in self._types]
        layouts = [Layout(kind="single", devices=(rank,)) for rank in ranks]
        self._search = Search(task.estimator, layouts)
        self._alive = _alive(task)
        estimates = [[items[layout] for items in self._search.estimates] for layout in layouts]
        held = [task.analysis.weight_bytes(start) for start in range(len(task.analysis.stretches))]
        devices = task.cluster.devices
        fits = [_fits(held, devices[rank].memory_bytes - reserved.get(rank, 0)) for rank in ranks]
        kinds = range(len(ranks))
        moves = {
            last: [self._hand_overs(CLIENT if last < 0 else ranks[last], ranks[kind]) for kind in kinds]
            for last in (-1, *kinds)
        }
        self._costs = _Costs(
            [self._stages(fits[k], [e.seconds for e in estimates[k]], ranks[k], 0) for k in kinds],
            [self._stages(fits[k], [e.energy_j for e in estimates[k]], ranks[k], 1) for k in kinds],
            {last: [move[0] for move in row] for last, row in moves.items()},
            {last: [move[1] for move in row] for last, row in moves.items()},
        )

    def _stages(self, fits: Matrix, each: Sequence[float], rank: int, figure: int) -> Matrix:
        """Cost of every run of stretches on one device; the last one hands the answer to the client."""
        sums = np.concatenate([[0.0], np.cumsum(each)])
        costs = np.where(fits > 0, sums[None, :] - sums[:, None], np.inf)
        costs[:, -1] += self._move(rank, CLIENT, len(each))[figure]
        return costs

    def _hand_overs(self, source: int, target: int) -> tuple[Vector, Vector]:
        figures = [self._move(source, target, index) for index in range(len(self._alive))]
        return np.array([item[0] for item in figures]), np.array([item[1] for item in figures])

    def _move(self, source: int, target: int, index: int) -> tuple[float, float]:
        """Seconds and joules to move what is alive in front of stretch ``index``."""
        analysis = self._task.analysis
        needs = {name: {target: analysis.full(name)} for name in self._alive[index]}
        owned = {} if source == CLIENT else {n: {source: Piece(analysis.full(n))} for n in needs}
        return self._search.estimator.network.moved(needs, owned)

    def solve(self) -> list[PipelineStage] | None:
        """Return the stages in order, or None where none fit."""
        count = len(self._task.analysis.stretches)
        start = np.full((2, count + 1), np.inf)
        start[:, 0] = 0.0
        none = (0,) * len(self._types)
        promising = self._promising()
        #: (used, last) -> costs by stretches done: of the objective, and the sum of seconds.
        best: dict[tuple[tuple[int, ...], int], Matrix] = {(none, -1): start}
        back: dict[tuple[tuple[int, ...], int, int], tuple[tuple[int, ...], int, int]] = {}
        for used in sorted(product(*(range(len(m) + 1) for m in self._types)), key=sum):
            for last in (-1, *range(len(self._types))):
                costs = best.get((used, last))
                if costs is None or np.all(costs[0] > promising):
                    continue
                for kind, members in enumerate(self._types):
                    if used[kind] < len(members):
                        more = tuple(n + (index == kind) for index, n in enumerate(used))
                        self._extend(costs, (used, last), (more, kind), best, back)
        ends = [(tuple(costs[:, -1]), key) for key, costs in best.items() if np.isfinite(costs[0, -1])]
        if not ends:
            return None
        used, last = min(ends)[1]
        parts, stop = [], count
        while last >= 0:
            before, previous, begin = back[used, last, stop]
            parts.append(PipelineStage(begin, stop, self._types[last][0]))
            used, last, stop = before, previous, begin
        return self._named(parts[::-1])

    def _promising(self) -> Vector:
        """Return, by stretches done, the cost from which on a partial pipeline cannot be the best.

        Where costs add up: the cost of one device for everything, less the least cost of the other stretches.
        """
        stages, hands = self._costs.seconds, self._costs.hand_s
        if self._task.objective.kind == "energy":
            stages, hands = self._costs.joules, self._costs.hand_j
        whole = min(hand[0] + stage[0, -1] for hand, stage in zip(hands[-1], stages, strict=True))
        if self._task.objective.kind == "throughput" or not np.isfinite(whole):
            return np.full(len(self._alive), np.inf)
        least = np.min([np.diagonal(stage, 1) for stage in stages], axis=0)
        rest = np.concatenate([np.cumsum(least[::-1])[::-1], [0.0]])
        limits: Vector = whole * (1 + 1e-9) - rest
        return limits

    def _extend(
        self,
        costs: Matrix,
        source: tuple[tuple[int, ...], int],
        target: tuple[tuple[int, ...], int],
        best: dict[tuple[tuple[int, ...], int], Matrix],
        back: dict[tuple[tuple[int, ...], int, int], tuple[tuple[int, ...], int, int]],
    ) -> None:
        """Add one stage of type ``target[1]`` to all partial pipelines of one state."""
        last, kind = source[1], target[1]
        stage, hand = self._costs.seconds[kind], self._costs.hand_s[last][kind][:, None]
        total = costs[1][:, None] + hand + stage
        match self._task.objective.kind:
            case "throughput":
                value = np.maximum(np.maximum(costs[0][:, None], hand), stage)
            case "energy":
                value = costs[0][:, None] + self._costs.hand_j[last][kind][:, None] + self._costs.joules[kind]
            case _:
                value = total
        value = np.where(np.isfinite(total), value, np.inf)
        # Prefer the quicker of equal ones: a nudge too small to change the order of others.
        begins = np.argmin(value * (1 + 1e-12) + 1e-9 * np.where(np.isfinite(total), total, 0.0), axis=0)
        columns = np.arange(value.shape[1])
        found = np.stack([value[begins, columns], total[begins, columns]])
        known = best.setdefault(target, np.full_like(costs, np.inf))
        better = (found[0] < known[0]) | ((found[0] == known[0]) & (found[1] < known[1]))
        known[:, better] = found[:, better]
        for stop in np.nonzero(better)[0]:
            back[(*target, int(stop))] = (*source, int(begins[stop]))

    def _named(self, parts: Sequence[PipelineStage]) -> list[PipelineStage]:
        """Give each stage a device of its own among those of its type."""
        free = {members[0]: list(members) for members in self._types}
        return [msgspec.structs.replace(part, rank=free[part.rank].pop(0)) for part in parts]


def _alive(task: Task) -> list[list[str]]:
    """Return, for each place between stretches, the tensors from before it that are needed behind it."""
    graph, stretches = task.graph, task.analysis.stretches
    made = set(graph.inputs)
    alive = []
    for index in range(len(stretches) + 1):
        read = {name for stretch in stretches[index:] for op in stretch for name in op.inputs}
        alive.append(sorted(made & (set(graph.outputs) if index == len(stretches) else read)))
        if index < len(stretches):
            made |= {name for op in stretches[index] for name in op.used_outputs}
    return alive


def _fits(held: Sequence[Sequence[int]], memory_bytes: int) -> Matrix:
    """1 where ``held[i][n]``, the bytes of weights of n stretches from i on, fit in, n > 0."""
    fits = np.zeros((len(held) + 1, len(held) + 1))
    for start, num_bytes in enumerate(held):
        fits[start, start + 1 :] = np.array(num_bytes[1:]) <= memory_bytes
    return fits


def types_of(task: Task) -> list[tuple[int, ...]]:
    """Return ranks in types of identical devices, fastest first, as many as the programme can carry.

    The source is a type of its own, since the client is on its host.
    """
    kinds: dict[object, list[int]] = {}
    for rank in task.fastest:
        kinds.setdefault(_kind(task, rank), []).append(rank)
    types: list[tuple[int, ...]] = []
    sets = 1
    for members in kinds.values():
        count = min(len(members), max(0, _MAX_SETS // sets - 1))
        if count:
            types.append(tuple(members[:count]))
            sets *= count + 1
    return types


def _kind(task: Task, rank: int) -> object:
    cluster = task.cluster
    device = msgspec.structs.replace(cluster.devices[rank], name="")
    named = {name for a, b, _ in cluster.links for name in (a, b)}
    named |= {name for segment in cluster.segments for name in segment.members}
    is_alone = rank == cluster.source_rank or cluster.devices[rank].name in named
    return (rank,) if is_alone or cluster.devices[rank].name in task.cost.corrections else device
