"""`edgeflow.deploy`: the coordinator, with the planner behind it."""

from __future__ import annotations

import functools
from typing import Any

from edgeflow.balancer import Planner
from edgeflow.cluster.cluster import Cluster
from edgeflow.coordinator import Session
from edgeflow.coordinator import deploy as deploy_kept
from edgeflow.cost import CostModel
from edgeflow.errors import InfeasiblePlanError
from edgeflow.graph.ir import ModelGraph
from edgeflow.plan.plan import Plan
from edgeflow.planner import plan_again


def planner_like(plan: Plan) -> Planner:
    """Return what makes plans of any graph as ``plan`` was made: strategy, objective, deadline, activations.

    Where its strategy has no plan for the devices that are left, `auto` makes one.
    """

    def replan(graph: ModelGraph, cluster: Cluster, cost: CostModel) -> Plan:
        try:
            return plan_again(plan, cluster, graph=graph, cost=cost)
        except InfeasiblePlanError:
            return plan_again(plan, cluster, graph=graph, strategy="auto", cost=cost)

    return replan


@functools.wraps(deploy_kept)
def deploy(plan: Plan, *args: Any, **options: Any) -> Session:
    return deploy_kept(plan, *args, **{"replan": planner_like(plan), **options})
