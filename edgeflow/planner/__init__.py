"""Strategies: one file each, all answering with the same kind of plan."""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Iterator, Mapping

from edgeflow.cluster.cluster import Cluster
from edgeflow.cost.model import CostModel
from edgeflow.errors import ConfigError
from edgeflow.graph.ir import ModelGraph
from edgeflow.plan.encoding import check_encoding
from edgeflow.plan.plan import Plan, verify_plan
from edgeflow.planner.objective import Objective
from edgeflow.planner.search.pareto import pareto as find_front
from edgeflow.planner.strategies.auto import auto
from edgeflow.planner.strategies.brute_force import brute_force
from edgeflow.planner.strategies.coedge import coedge
from edgeflow.planner.strategies.deeperthings import deeperthings
from edgeflow.planner.strategies.deepthings import deepthings
from edgeflow.planner.strategies.edgeflow_paper import edgeflow_paper
from edgeflow.planner.strategies.fused import fused
from edgeflow.planner.strategies.galaxy import galaxy
from edgeflow.planner.strategies.megatron import megatron
from edgeflow.planner.strategies.modnn import modnn
from edgeflow.planner.strategies.pipeline import pipeline
from edgeflow.planner.strategies.replicate import replicate
from edgeflow.planner.strategies.single import single
from edgeflow.planner.strategies.voltage import voltage
from edgeflow.planner.task import Strategy, Task

__all__ = ["Objective", "Strategy", "Task", "pareto", "plan", "plan_again", "strategies"]

#: Strategies from elsewhere, in the order in which they are shown: the plainest first.
_PUBLISHED: Mapping[str, Strategy] = {
    "single": single,
    "replicate": replicate,
    "modnn": modnn,
    "deepthings": deepthings,
    "deeperthings": deeperthings,
    "coedge": coedge,
    "edgeflow_paper": edgeflow_paper,
    "fused": fused,
    "megatron": megatron,
    "galaxy": galaxy,
    "voltage": voltage,
    "pipeline": pipeline,
}


def _auto(task: Task) -> Plan:
    return auto(task, tuple(_PUBLISHED.values()))


_STRATEGIES: Mapping[str, Strategy] = {**_PUBLISHED, "auto": _auto, "brute_force": brute_force}


def strategies() -> Mapping[str, str]:
    """Return the strategies' names and what each does, in one line."""
    modules = {name: made.__module__ for name, made in {**_STRATEGIES, "auto": auto}.items()}
    return {name: (sys.modules[module].__doc__ or name).splitlines()[0] for name, module in modules.items()}


def plan(
    graph: ModelGraph,
    cluster: Cluster,
    strategy: str = "auto",
    objective: str = "latency",
    *,
    deadline_s: float | None = None,
    cost: CostModel | None = None,
    activations: str = "",
) -> Plan:
    """Decide which device computes what.

    Args:
        strategy: One of `strategies`.
        objective: ``latency``: the time of one request on an idle cluster. ``throughput``: the time between
            two answers when requests never cease. ``energy``: what one request adds to the consumption.
        deadline_s: Latency to keep. A plan that misses it loses against any that keeps it; where none does,
            the one that misses it by least is returned, which its ``predicted_latency_s`` shows.
        cost: Costs on this cluster; the roofline of its devices by default.
        activations: Send them narrower over slow links, as one of `edgeflow.plan.encoding.ENCODINGS`: faster
            there, and the answers are no longer exactly those of one device.

    Raises:
        ConfigError: If there is no such strategy, objective or encoding, or the deadline is not positive.
        InfeasiblePlanError: If the memory of the devices does not hold the model in any way tried.
    """
    if strategy not in _STRATEGIES:
        raise ConfigError(f"no strategy {strategy!r}; known: {', '.join(_STRATEGIES)}")
    check_encoding(activations)
    task = _task(graph, cluster, cost, Objective.of(objective, deadline_s), activations)
    with _collector_paused():
        made = _STRATEGIES[strategy](task)
        verify_plan(made)  # of all that was weighed on the way, only whether it fits in memory
    return made


def plan_again(
    made: Plan,
    cluster: Cluster,
    *,
    graph: ModelGraph | None = None,
    strategy: str | None = None,
    cost: CostModel | None = None,
) -> Plan:
    """Plan for another cluster, as ``made`` was asked for.

    Args:
        graph, strategy: Instead of those of ``made``.

    Raises:
        InfeasiblePlanError: If the memory of the devices does not hold the model in any way tried.
    """
    return plan(
        graph or made.graph,
        cluster,
        strategy or made.strategy,
        made.objective,
        deadline_s=made.deadline_s,
        cost=cost,
        activations=made.activations,
    )


def pareto(graph: ModelGraph, cluster: Cluster, *, cost: CostModel | None = None) -> tuple[Plan, ...]:
    """Return plans of which none is beaten in latency, in throughput and in energy at once; quickest first.

    Raises:
        InfeasiblePlanError: If the memory of the devices does not hold the model in any way tried.
    """
    with _collector_paused():
        found = find_front(_task(graph, cluster, cost, Objective()), tuple(_PUBLISHED.values()))
        for made in found:
            verify_plan(made)
    return found


@contextlib.contextmanager
def _collector_paused() -> Iterator[None]:
    """Pause the search for cycles: planning makes millions of small frozen values, and none is in a cycle.

    Seen: 1.4 s instead of 2.0 s for ResNet-50 on eight devices.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _task(
    graph: ModelGraph, cluster: Cluster, cost: CostModel | None, objective: Objective, activations: str = ""
) -> Task:
    cost = cost or CostModel(cluster=cluster)
    return Task(graph=graph, cluster=cluster, cost=cost, objective=objective, activations=activations)
