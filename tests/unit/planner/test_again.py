"""Planning again as a plan was made, and the fallback to `auto`."""

from __future__ import annotations

import pytest

from edgeflow.cluster.cluster import Cluster
from edgeflow.cost.model import CostModel
from edgeflow.errors import InfeasiblePlanError
from edgeflow.planner import again
from edgeflow.planner import plan as make_plan
from edgeflow.planner.again import planner_like
from tests.unit.plan.tiny import convs

THREE = Cluster.local([1.0, 0.5, 0.25], bandwidth="1 Gbit/s")
TWO = Cluster.local([1.0, 0.5], bandwidth="1 Gbit/s")


def test_a_planner_like_a_plan_keeps_its_strategy_objective_deadline_and_activations() -> None:
    made = make_plan(convs(3, 3), THREE, "coedge", "throughput", deadline_s=2.0, activations="float16")

    planned = planner_like(made)(made.graph, TWO, CostModel(cluster=TWO))

    assert planned.cluster == TWO
    assert (planned.strategy, planned.objective) == ("coedge", "throughput")
    assert (planned.deadline_s, planned.activations) == (2.0, "float16")


def test_auto_plans_where_the_strategy_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    made = make_plan(convs(3, 3), THREE, "coedge")
    asked: list[str] = []

    def coedge_never_fits(plan, cluster, *, graph, cost, strategy=None):  # type: ignore[no-untyped-def]
        asked.append(strategy or plan.strategy)
        if strategy is None:
            raise InfeasiblePlanError("too little memory", constraint="memory")
        return make_plan(graph, cluster, strategy, cost=cost)

    monkeypatch.setattr(again, "plan_again", coedge_never_fits)
    planned = planner_like(made)(made.graph, TWO, CostModel(cluster=TWO))

    assert asked == ["coedge", "auto"]
    assert planned.strategy == "auto"


def test_a_model_that_fits_in_no_way_is_infeasible() -> None:
    made = make_plan(convs(3, 3), THREE, "coedge")
    tiny = Cluster.local([1.0], bandwidth="1 Gbit/s", memory="64 B")

    with pytest.raises(InfeasiblePlanError):
        planner_like(made)(made.graph, tiny, CostModel(cluster=tiny))
