"""Plan again for other devices, costs or graphs, in the way a given plan was made."""

from __future__ import annotations

from edgeflow.balancer import Planner
from edgeflow.cluster.cluster import Cluster
from edgeflow.cost.model import CostModel
from edgeflow.errors import InfeasiblePlanError
from edgeflow.graph.ir import ModelGraph
from edgeflow.plan.plan import Plan
from edgeflow.planner import plan_again

__all__ = ["plan_again", "planner_like"]


def planner_like(plan: Plan) -> Planner:
    """Return a planner with the strategy, objective, deadline and activations of ``plan``.

    If the strategy has no plan for the given devices, the planner falls back to `auto`. It raises
    `InfeasiblePlanError` if that has none either.
    """

    def replan(graph: ModelGraph, cluster: Cluster, cost: CostModel) -> Plan:
        try:
            return plan_again(plan, cluster, graph=graph, cost=cost)
        except InfeasiblePlanError:
            return plan_again(plan, cluster, graph=graph, strategy="auto", cost=cost)

    return replan
