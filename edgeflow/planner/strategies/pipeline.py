"""Contiguous stages on one device each, handed from one to the next; requests follow each other.

An exact dynamic programme over (stretches done, set of used devices, last device), under estimates: for
throughput the slowest stage or hand-over is made small, for latency their sum, for energy their joules. Each
device holds one stage, so memory is checked stage by stage, within the programme: weights exactly, and room
for buffers as far as earlier answers have shown that it is needed. Devices that are alike in everything count
as one type of which so many may be used. With too many sets of types, only the fastest devices take part.

What is reconstructed: PipeEdge's programme (there with bandwidth per device; here per pair) and EdgeShard's
two objectives (there memory is not part of the state; a device cannot be used twice here, so it need not be).

References:
    Hu, Imes, Zhao, Kundu, Beerel, Crago, Walters, "PipeEdge: Pipeline Parallelism for Large-Scale Model
    Inference on Heterogeneous Edge Devices", DSD 2022.
    Zhang, Shen, Zhang, Cheng, "EdgeShard: Efficient LLM Inference via Collaborative Edge Computing", IEEE
    Internet of Things Journal, 2025.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Final

import msgspec
import numpy as np

from edgeflow.errors import InfeasiblePlanError
from edgeflow.plan.plan import Plan
from edgeflow.plan.program import CLIENT
from edgeflow.plan.stage import Piece
from edgeflow.planner.layouts.layout import Layout
from edgeflow.planner.search.dynamic import Search
from edgeflow.planner.search.stretches import operators_of, weight_bytes
from edgeflow.planner.task import Run, Task, best_of, finish_runs

#: Answers that may turn out not to fit with their buffers before none is found.
_MAX_TRIES: Final = 8

#: The programme's states are sets of used types, times last types, times stretches.
_MAX_SETS: Final = 256

Matrix = np.ndarray[tuple[int, int], np.dtype[np.float64]]
Vector = np.ndarray[tuple[int], np.dtype[np.float64]]


class _Part(msgspec.Struct, frozen=True):
    """Stretches ``[start, stop)`` on one device."""

    start: int
    stop: int
    rank: int


def pipeline(task: Task) -> Plan:
    """Return the best pipeline of any number of devices, one included.

    Raises:
        InfeasiblePlanError: If no pipeline fits the devices' memory.
    """
    if not task.graph.operators:
        return finish_runs(task, [], strategy="pipeline", label="pipeline of 0 stages")
    #: What devices of one type keep free of weights, for buffers.
    reserved: dict[int, int] = {}
    failures: list[tuple[str, InfeasiblePlanError]] = []
    for _ in range(_MAX_TRIES):
        found = _Programme(task, reserved).solve()
        if found is None:
            break
        runs = [
            Run(
                operators_of(task.analysis, part.start, part.stop),
                Layout(kind="single", devices=(part.rank,)),
            )
            for part in found
        ]
        label = f"pipeline of {len(runs)} stage{'s' if len(runs) != 1 else ''}"
        try:
            plans = [finish_runs(task, runs, strategy="pipeline", label=label)]
        except InfeasiblePlanError as error:
            failures.append((label, error))
            if not _reserve(task, found, error, reserved):
                break
        else:
            return best_of(plans, objective=task.objective, strategy="pipeline")
    if failures:
        return best_of([], objective=task.objective, strategy="pipeline", failures=failures)
    raise _nothing_fits(task)


def _reserve(
    task: Task, parts: Sequence[_Part], error: InfeasiblePlanError, reserved: dict[int, int]
) -> bool:
    """Keep as much free as a stage takes beside its weights; False if it was not memory that was lacking."""
    part = next((item for item in parts if task.cluster.devices[item.rank].name == error.device), None)
    if error.constraint != "memory" or error.required is None or part is None:
        return False
    first = next((members[0] for members in _types(task) if part.rank in members), part.rank)
    reserved[first] = int(error.required) - weight_bytes(task.analysis, part.start)[part.stop - part.start]
    return True


def _nothing_fits(task: Task) -> InfeasiblePlanError:
    """Name the roomiest device, and what it would have to hold: its share of all, or the largest stretch."""
    devices = task.cluster.devices
    roomiest = max(devices, key=lambda device: device.memory_bytes)
    count = len(task.analysis.stretches)
    total = weight_bytes(task.analysis)[-1]
    offered = sum(device.memory_bytes for device in devices)
    share = -(-total * roomiest.memory_bytes // offered)
    required = max(share, *(weight_bytes(task.analysis, index)[1] for index in range(count)))
    if required <= roomiest.memory_bytes:  # there is room, but not in pieces that stretches fit
        required = total
    return InfeasiblePlanError(
        f"no pipeline fits: device {roomiest.name!r} needs {required:,} bytes for its part of the weights, "
        f"it offers {roomiest.memory_bytes:,} (all devices {offered:,}, all weights {total:,})",
        constraint="memory",
        required=required,
        available=roomiest.memory_bytes,
        device=roomiest.name,
    )


class _Costs(msgspec.Struct, frozen=True):
    """Of stages by type: ``seconds[kind][i, j]`` of stretches ``[i, j)``, infinite where they do not fit, the
    same in joules, and of hand-overs: ``hands[last][kind][i]`` in front of stretch i, by seconds and joules.
    """

    seconds: list[Matrix]
    joules: list[Matrix]
    hand_s: dict[int, list[Vector]]
    hand_j: dict[int, list[Vector]]


class _Programme:
    """For each set of used types (counts) and last type: the least costs by how many stretches are done."""

    def __init__(self, task: Task, reserved: Mapping[int, int]) -> None:
        self._task = task
        self._types = _types(task)
        ranks = [members[0] for members in self._types]
        layouts = [Layout(kind="single", devices=(rank,)) for rank in ranks]
        self._search = Search(task.estimator, layouts)
        self._alive = _alive(task)
        estimates = [[items[layout] for items in self._search.estimates] for layout in layouts]
        held = [weight_bytes(task.analysis, start) for start in range(len(task.analysis.stretches))]
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

    def solve(self) -> list[_Part] | None:
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
            parts.append(_Part(begin, stop, self._types[last][0]))
            used, last, stop = before, previous, begin
        return self._named(parts[::-1])

    def _promising(self) -> Vector:
        """By stretches done: what must not have been spent for the rest to be worth looking at.

        Where costs add up, one device for all is known beforehand, and so is that no stretch will cost less
        than where it costs least.
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
        # Of equal ones the quicker: a nudge too small to change the order of others.
        begins = np.argmin(value * (1 + 1e-12) + 1e-9 * np.where(np.isfinite(total), total, 0.0), axis=0)
        columns = np.arange(value.shape[1])
        found = np.stack([value[begins, columns], total[begins, columns]])
        known = best.setdefault(target, np.full_like(costs, np.inf))
        better = (found[0] < known[0]) | ((found[0] == known[0]) & (found[1] < known[1]))
        known[:, better] = found[:, better]
        for stop in np.nonzero(better)[0]:
            back[(*target, int(stop))] = (*source, int(begins[stop]))

    def _named(self, parts: Sequence[_Part]) -> list[_Part]:
        """Give each stage a device of its own among those of its type."""
        free = {members[0]: list(members) for members in self._types}
        return [msgspec.structs.replace(part, rank=free[part.rank].pop(0)) for part in parts]


def _alive(task: Task) -> list[list[str]]:
    """For each place between stretches, tensors from before it that are read behind it, or answers."""
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


def _types(task: Task) -> list[tuple[int, ...]]:
    """Ranks that are alike in everything, fastest first; as many of them as the programme can carry.

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
