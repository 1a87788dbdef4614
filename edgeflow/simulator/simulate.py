"""Simulate on a virtual clock the programs that workers run: requests contend for devices and links.

A device runs one request until it waits for a frame; then it runs the earliest request that can continue, as
workers do. Transfers take turns at the resources on their path. A single request on an idle cluster takes
exactly as long as `edgeflow.cost.predict` says.
"""

from __future__ import annotations

from typing import Final

import msgspec

from edgeflow.balancer.observation import Balancer
from edgeflow.cluster.cluster import Cluster
from edgeflow.cost.model import CostModel
from edgeflow.errors import ConfigError
from edgeflow.plan.plan import Plan
from edgeflow.planner.again import planner_like
from edgeflow.simulator.arrivals import Arrivals, ClosedLoop, Every, Recorded
from edgeflow.simulator.report import SimulationReport
from edgeflow.simulator.run import Reaction, Replan, Run, costs_on
from edgeflow.simulator.scenario import Scenario

#: Most requests in flight per way; the others wait at the client, as in a session.
MAX_IN_FLIGHT: Final = 8


def simulate(
    plan: Plan,
    requests: int = 100,
    *,
    interval_s: float | None = None,
    arrivals: Arrivals | None = None,
    cost: CostModel | None = None,
    scenario: Scenario | None = None,
    cluster: Cluster | None = None,
    replan: Replan | None = None,
    balancer: Balancer | None = None,
    reaction: Reaction | None = None,
    max_in_flight: int = MAX_IN_FLIGHT,
    with_events: bool = False,
) -> SimulationReport:
    """Run a plan for a number of requests on a virtual clock.

    Args:
        requests: Number of requests.
        interval_s: Short for ``arrivals=Every(interval_s)``.
        arrivals: When requests arrive; by default each arrives when the previous one is answered.
        cost: Costs on ``cluster``; the roofline of its devices by default.
        scenario: Changes of speeds, networks and devices.
        cluster: All devices that are ever present, if some join later; the plan's cluster by default.
        replan: Makes a plan for the present devices when one was lost or has joined; by default
            `edgeflow.planner.again.planner_like` the given plan, as in a session.
        balancer: Watches, and may ask for another plan.
        reaction: Delays of detection and reaction.
        max_in_flight: Most requests in flight per way.
        with_events: Whether to keep the timeline.

    Raises:
        ConfigError: If a number is out of range, the scenario does not fit the cluster, or a trace ends
            before the simulation does.
        InfeasiblePlanError: If no request was ever answered, because no plan could be made.
        InvalidPlanError: If programs wait for frames that are never sent.

    Notes:
        Linear in the number of requests. Memory grows by some hundred bytes per request, and with the events
        if they are kept.
    """
    if requests < 1:
        raise ConfigError(f"requests must be at least 1, got {requests}")
    if max_in_flight < 1:
        raise ConfigError(f"max_in_flight must be at least 1, got {max_in_flight}")
    if interval_s is not None and arrivals is not None:
        raise ConfigError("give either interval_s or arrivals")
    if arrivals is None:
        arrivals = ClosedLoop() if interval_s is None else Every(interval_s)
    if isinstance(arrivals, Recorded):
        arrivals.times(requests)  # report a trace that is too short now rather than at its end
    whole = cluster or plan.cluster
    scenario = scenario or Scenario()
    _check_plan(plan, whole, scenario)
    run = Run(
        plan,
        whole,
        msgspec.structs.replace(cost or CostModel(cluster=whole), cluster=whole),
        scenario,
        replan=replan or _replanner(plan, cost),
        reaction=reaction or Reaction(),
        balancer=balancer,
        max_in_flight=max_in_flight,
        with_events=with_events,
    )
    return run.run(requests, arrivals)


def _replanner(plan: Plan, cost: CostModel | None) -> Replan:
    """Return a function that plans for other devices, as ``plan`` was made."""
    planner = planner_like(plan)

    def replan(cluster: Cluster) -> Plan:
        return planner(plan.graph, cluster, costs_on(cost or CostModel(cluster=cluster), cluster))

    return replan


def _check_plan(plan: Plan, cluster: Cluster, scenario: Scenario) -> None:
    names = {device.name for device in cluster.devices}
    for device in plan.cluster.devices:
        if device.name not in names:
            raise ConfigError(f"the plan's device {device.name!r} is not in cluster {cluster.name!r}")
    mine = plan.cluster.devices[plan.cluster.source_rank].name
    theirs = cluster.devices[cluster.source_rank].name
    if mine != theirs:
        raise ConfigError(f"requests arrive at {mine!r} in the plan's cluster and at {theirs!r} in the whole")
    for rank in plan.devices:
        name = plan.cluster.devices[rank].name
        if name in scenario.late:
            raise ConfigError(
                f"the plan uses device {name!r}, which scenario {scenario.name!r} lets join later: plan for "
                "`scenario.initial(cluster)`"
            )
