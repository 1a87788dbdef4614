"""The balancer in the simulator: the one that sessions use, with the planner behind it."""

from __future__ import annotations

from edgeflow.balancer import Planner, Rebalancer, Thresholds
from edgeflow.cluster.cluster import Cluster
from edgeflow.cost.model import CostModel
from edgeflow.graph.ir import ModelGraph
from edgeflow.plan.plan import Plan
from edgeflow.planner.again import planner_like

__all__ = ["MeasuredSpeeds", "Planner", "Thresholds"]


class MeasuredSpeeds(Rebalancer):
    """Re-plans from measured speeds; see `edgeflow.balancer.Rebalancer`.

    The costs are exact: the simulator runs devices at the speed that they predict.

    Args:
        planner: By default `planner_like` the running plan.
    """

    def __init__(
        self,
        thresholds: Thresholds | None = None,
        *,
        planner: Planner | None = None,
        cost: CostModel | None = None,
    ) -> None:
        super().__init__(thresholds, planner=planner or self._plan_again, cost=cost, is_exact=True)

    def _plan_again(self, graph: ModelGraph, cluster: Cluster, cost: CostModel) -> Plan:
        running = self._plan
        assert running is not None, "the first plan is the caller's"
        return planner_like(running)(graph, cluster, cost)
