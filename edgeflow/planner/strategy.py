"""What a strategy is, and what all of them share: choosing devices, finishing plans, comparing candidates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import msgspec

from edgeflow.cluster.cluster import Cluster
from edgeflow.cost.model import CostModel
from edgeflow.cost.timeline import predict_programs
from edgeflow.errors import InfeasiblePlanError
from edgeflow.graph.ir import ModelGraph, Operator
from edgeflow.plan.plan import Candidate, Plan
from edgeflow.plan.stage import Stage
from edgeflow.plan.verify import verify_plan
from edgeflow.planner.analysis import Analysis, analysis_of
from edgeflow.planner.build import draft
from edgeflow.planner.layout import Layout, close


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """What a strategy is given."""

    graph: ModelGraph
    cluster: Cluster
    cost: CostModel
    objective: str = "latency"

    @property
    def analysis(self) -> Analysis:
        return analysis_of(self.graph)

    @property
    def speeds(self) -> tuple[float, ...]:
        return tuple(device.flops_per_second for device in self.cluster.devices)

    @property
    def fastest(self) -> tuple[int, ...]:
        """Ranks, fastest first; equals in rank order."""
        return tuple(sorted(self.cluster.ranks, key=lambda rank: (-self.speeds[rank], rank)))


#: A strategy decides; it returns a finished plan or raises `InfeasiblePlanError`.
Strategy = Callable[[Task], Plan]


class Run(msgspec.Struct, frozen=True):
    """Consecutive operators in one layout."""

    operators: tuple[Operator, ...]
    layout: Layout


def merge_runs(runs: Sequence[Run]) -> list[Run]:
    """Join neighbours of the same layout, unless their halos are recomputed, which then would grow."""
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


def finish(task: Task, stages: tuple[Stage, ...], *, strategy: str, label: str) -> Plan:
    """Check stages, predict their latency, and return them as a plan with itself as its only candidate.

    Raises:
        InfeasiblePlanError: If a device's memory does not hold its part.
    """
    plan = Plan(
        graph=task.graph,
        cluster=task.cluster,
        stages=stages,
        strategy=strategy,
        objective=task.objective,
        chosen=label,
    )
    verify_plan(plan)
    latency = predict_programs(plan.programs, task.cost).latency_s
    done = replace(plan, predicted_latency_s=latency, candidates=(Candidate(label, latency),))
    # `replace` makes a new object; the programs that were lowered for the check serve it as well.
    done.__dict__["programs"] = plan.programs
    return done


def finish_runs(task: Task, runs: Sequence[Run], *, strategy: str, label: str) -> Plan:
    return finish(task, stages_of(task, runs), strategy=strategy, label=label)


def best_of(
    plans: Sequence[Plan], *, strategy: str, failures: Sequence[tuple[str, InfeasiblePlanError]] = ()
) -> Plan:
    """Return the plan with the least predicted latency, the others and the failures as candidates.

    Raises:
        InfeasiblePlanError: If there is no plan: the failure that lacked least.
    """
    if not plans:
        raise least_infeasible([error for _, error in failures])
    best = min(plans, key=lambda plan: plan.predicted_latency_s)
    candidates = [item for plan in plans for item in plan.candidates]
    candidates += [Candidate(label, None, str(error)) for label, error in failures]
    unique = {item.label: item for item in sorted(candidates, key=_worst_first)}
    ordered = sorted(unique.values(), key=_worst_first, reverse=True)
    done = replace(best, strategy=strategy, candidates=tuple(ordered))
    done.__dict__["programs"] = best.programs
    return done


def _worst_first(item: Candidate) -> float:
    return -(item.latency_s if item.latency_s is not None else float("inf"))


def least_infeasible(errors: Sequence[InfeasiblePlanError]) -> InfeasiblePlanError:
    """The failure that lacked the least of what bound it."""
    return min(
        errors,
        key=lambda error: (error.required or float("inf")) - (error.available or 0.0),
        default=InfeasiblePlanError("no plan was found", constraint="devices"),
    )
