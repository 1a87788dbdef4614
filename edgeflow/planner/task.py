"""The task of a strategy, and what all strategies share: finishing plans, comparing candidates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from math import inf
from typing import Final

import msgspec

from edgeflow.cluster.cluster import Cluster
from edgeflow.cost.model import CostModel
from edgeflow.cost.timeline import predict_programs
from edgeflow.errors import InfeasiblePlanError
from edgeflow.graph.ir import ModelGraph, Operator
from edgeflow.plan.decision import Decision
from edgeflow.plan.plan import Plan
from edgeflow.plan.program import Kernel
from edgeflow.plan.stage import Piece, Shard, Stage
from edgeflow.plan.stage_kernels import stage_kernels
from edgeflow.plan.verify import verify_memory
from edgeflow.plan.weighed import Candidate, Figures, Weighed
from edgeflow.planner.analysis import Analysis, analysis_of
from edgeflow.planner.estimates.estimator import Estimator
from edgeflow.planner.estimates.frames import busiest_s
from edgeflow.planner.estimates.strips import StripCosts
from edgeflow.planner.layouts.build import draft
from edgeflow.planner.layouts.layout import Layout, close
from edgeflow.planner.objective import Objective, mixed_period_s
from edgeflow.sharding.region import Region
from edgeflow.units import format_seconds


class Task(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """The input of a strategy: what to plan for, on which devices, at which costs.

    Attributes:
        limit_s: Latency above which a plan is useless. A plan on many devices is refused without an exact
            prediction if a bound is above it.
    """

    graph: ModelGraph
    cluster: Cluster
    cost: CostModel
    objective: Objective = Objective()
    activations: str = ""
    limit_s: float = inf

    @property
    def analysis(self) -> Analysis:
        return analysis_of(self.graph)

    @cached_property
    def strips(self) -> StripCosts:
        """Costs of the graph's operators by strips along its labels."""
        return StripCosts(self.analysis, self.cost, self.analysis.labels)

    @cached_property
    def estimator(self) -> Estimator:
        """Estimates of stretches in layouts."""
        return Estimator(self.analysis, self.cost)

    @cached_property
    def alone_s(self) -> tuple[float, ...]:
        """Rank -> seconds of all kernels of the graph on that device alone."""
        kernels = whole_kernels(self.graph)
        return tuple(self.cost.compute_s(rank, kernels) for rank in self.cluster.ranks)

    @cached_property
    def alone(self) -> tuple[tuple[Plan, ...], tuple[tuple[str, InfeasiblePlanError], ...]]:
        """Plans of the whole graph on each device that can hold it, and the failures of the others."""
        plans, failures = [], []
        for rank, device in enumerate(self.cluster.devices):
            run = Run(self.graph.operators, Layout(kind="single", devices=(rank,)))
            label = f"single on {device.name}"
            try:
                plans.append(finish_runs(self, [run], strategy="single", label=label))
            except InfeasiblePlanError as error:
                failures.append((label, error))
        return tuple(plans), tuple(failures)

    @cached_property
    def speeds(self) -> tuple[float, ...]:
        """Rank -> how fast the device is at this graph, relative to the fastest one."""
        least = min(self.alone_s)
        return tuple(least / seconds if seconds else 1.0 for seconds in self.alone_s)

    def within(self, limit_s: float) -> Task:
        """The same task with another limit; what all strategies ask is found out before, once."""
        limited = msgspec.structs.replace(self, limit_s=limit_s)
        for name in ("strips", "estimator", "alone_s", "alone", "speeds"):
            limited.__dict__[name] = getattr(self, name)
        return limited

    def part(self, cluster: Cluster, cost: CostModel, ranks: Sequence[int]) -> Task:
        """Return the task on a part of the cluster; ``ranks``: its ranks in the whole cluster."""
        of_part = msgspec.structs.replace(self, cluster=cluster, cost=cost)
        # A device takes as long for its strip among few as among many.
        of_part.__dict__["strips"] = StripCosts(
            self.analysis, cost, self.analysis.labels, of_all=self.strips, ranks=ranks
        )
        return of_part

    @property
    def fastest(self) -> tuple[int, ...]:
        """Ranks, fastest first; equals in rank order."""
        return tuple(sorted(self.cluster.ranks, key=lambda rank: (-self.speeds[rank], rank)))


def whole_kernels(graph: ModelGraph) -> tuple[Kernel, ...]:
    """Return the kernels that compute every result of the graph whole, in order."""
    names = tuple(name for op in graph.operators for name in op.used_outputs)
    pieces = tuple((name, Piece(Region.full(graph.specs[name].shape))) for name in names)
    stage = Stage(name="", kind="", operators=tuple(op.name for op in graph.operators), shards=())
    return stage_kernels(graph, stage, Shard(0, pieces)).kernels


#: Plans with this many shards in a stage are bounded by their frames before programs are written.
_MANY: Final = 16

#: A strategy decides; it returns a finished plan or raises `InfeasiblePlanError`.
Strategy = Callable[[Task], Plan]


class Run(msgspec.Struct, frozen=True):
    """Consecutive operators in one layout."""

    operators: tuple[Operator, ...]
    layout: Layout


def merge_runs(runs: Sequence[Run]) -> list[Run]:
    """Join neighbouring runs of the same layout, unless halos are recomputed: joined, they would grow."""
    merged: list[Run] = []
    for run in runs:
        if merged and merged[-1].layout == run.layout and run.layout.exchange:
            merged[-1] = Run(merged[-1].operators + run.operators, run.layout)
        else:
            merged.append(run)
    return merged


def stages_of(task: Task, runs: Sequence[Run]) -> tuple[Stage, ...]:
    """Build the stages of a sequence of runs that covers the graph."""
    drafts = [item for run in merge_runs(runs) for item in draft(task.analysis, run.operators, run.layout)]
    return close(task.analysis, drafts)


def finish(
    task: Task,
    stages: tuple[Stage, ...],
    *,
    strategy: str,
    label: str,
    replicas: tuple[tuple[Stage, ...], ...] = (),
) -> Plan:
    """Predict stages, and return them as a plan with itself as its only candidate.

    Of several ways to answer, a request on an idle cluster goes the fastest one, whose latency and energy the
    plan has; many requests are shared out between them as is best for the period, and with the objective
    ``throughput`` the energy is that of this mixture.

    Raises:
        InfeasiblePlanError: If a device's memory does not hold its part, a link is missing, or it is sure to
            need longer than the task's limit.
    """
    _check_limit(task, stages)
    decision = Decision(
        graph=task.graph,
        cluster=task.cluster,
        stages=stages,
        replicas=replicas,
        activations=task.activations,
    )
    verify_memory(decision)
    predictions = [
        predict_programs(way.programs, task.cost, is_one_of_many=bool(replicas)) for way in decision.ways
    ]
    fastest = min(predictions, key=lambda item: item.latency_s)
    energy = fastest.active_energy_j
    period, fractions = mixed_period_s([item.busy_s for item in predictions])
    if task.objective.kind == "throughput":
        energy = sum(
            item.active_energy_j * fraction for item, fraction in zip(predictions, fractions, strict=True)
        )
    figures = Figures(latency_s=fastest.latency_s, period_s=period, energy_j=energy)
    return Plan(
        decision,
        Weighed(
            strategy=strategy,
            objective=task.objective.kind,
            deadline_s=task.objective.deadline_s,
            figures=figures,
            chosen=label,
            candidates=(Candidate(label, figures),),
        ),
    )


def _check_limit(task: Task, stages: tuple[Stage, ...]) -> None:
    if task.limit_s == inf or max((len(stage.shards) for stage in stages), default=0) < _MANY:
        return
    least_s, rank = busiest_s(task.graph, task.cost, stages, enough_s=task.limit_s)
    if least_s > task.limit_s:
        name = task.cluster.devices[rank].name
        raise InfeasiblePlanError(
            f"needs at least {format_seconds(least_s)}, for the frames of {name!r} alone; "
            f"another plan needs {format_seconds(task.limit_s)} for everything",
            constraint="latency",
            required=least_s,
            available=task.limit_s,
        )


def finish_ways(task: Task, ways: Sequence[Plan], *, strategy: str, label: str) -> Plan:
    """Return one plan that answers in any of these ways; ways that would get no requests are left out.

    Raises:
        InfeasiblePlanError: If a device's memory does not hold what all of them need of it.
    """
    ordered = sorted(ways, key=lambda way: way.predicted_latency_s)
    _, fractions = mixed_period_s(
        [predict_programs(way.programs, task.cost, is_one_of_many=True).busy_s for way in ordered]
    )
    # The fastest way stays in any case: a request alone goes there.
    used = [way for way, fraction in zip(ordered, fractions, strict=True) if fraction > 1e-6]
    others = tuple(way.stages for way in used if way is not ordered[0])
    return finish(task, ordered[0].stages, strategy=strategy, label=label, replicas=others)


def finish_runs(task: Task, runs: Sequence[Run], *, strategy: str, label: str) -> Plan:
    return finish(task, stages_of(task, runs), strategy=strategy, label=label)


def whole_on(task: Task, *, strategy: str) -> tuple[list[Plan], list[tuple[str, InfeasiblePlanError]]]:
    """Return the whole graph on each device that can hold it, and why the others cannot."""
    plans, failures = task.alone
    return [plan.reweighed(strategy=strategy) for plan in plans], list(failures)


def best_of(
    plans: Sequence[Plan],
    *,
    objective: Objective,
    strategy: str,
    failures: Sequence[tuple[str, InfeasiblePlanError]] = (),
) -> Plan:
    """Return the best plan under the objective, the others and the failures as candidates.

    Raises:
        InfeasiblePlanError: If there is no plan: the failure that lacked least.
    """
    if not plans:
        raise least_infeasible([error for _, error in failures])
    best = min(plans, key=objective.score)
    candidates = [item for plan in plans for item in plan.candidates]
    candidates += [Candidate(label, reason=str(error)) for label, error in failures]
    unique: dict[str, Candidate] = {}
    for item in sorted(candidates, key=objective.score):
        unique.setdefault(item.label, item)
    return best.reweighed(strategy=strategy, candidates=tuple(unique.values()))


def least_infeasible(errors: Sequence[InfeasiblePlanError]) -> InfeasiblePlanError:
    """Return the failure whose requirement exceeds what is available by the least."""
    return min(
        errors,
        key=lambda error: (error.required or float("inf")) - (error.available or 0.0),
        default=InfeasiblePlanError("no plan was found", constraint="devices"),
    )
