"""What callers ask of the planner: strategies by name, objectives, one device, no operators."""

from __future__ import annotations

import pytest
from torch import nn

from edgeflow.cluster.cluster import Cluster
from edgeflow.errors import ConfigError, InfeasiblePlanError
from edgeflow.planner import plan, strategies
from tests.unit.planner.graphs import captured, graph


def test_a_strategy_that_does_not_exist() -> None:
    with pytest.raises(ConfigError, match=r"no strategy 'magic'; known: single, replicate, .*auto"):
        plan(graph("mlp"), Cluster.local(), strategy="magic")


def test_an_objective_that_does_not_exist() -> None:
    with pytest.raises(ConfigError, match="no objective 'beauty'; known: latency, throughput, energy"):
        plan(graph("mlp"), Cluster.local(), objective="beauty")


@pytest.mark.parametrize("strategy", [name for name in strategies() if name != "brute_force"])
def test_on_one_device_every_strategy_is_the_same(strategy: str) -> None:
    made = plan(graph("tiny-vit"), Cluster.local(), strategy=strategy)

    assert made.devices == (0,)
    assert made.strategy == strategy
    assert made.predicted_latency_s == plan(graph("tiny-vit"), Cluster.local()).predicted_latency_s


@pytest.mark.parametrize("strategy", list(strategies()))
def test_a_model_without_operators_has_a_plan(strategy: str) -> None:
    made = plan(captured(nn.Identity(), 2, 3), Cluster.local([1.0, 0.5]), strategy=strategy)

    assert made.devices == ()
    assert made.predicted_latency_s == 0.0
    assert "0 operators" in made.explain()


def test_memory_that_holds_it_in_no_way_is_an_error_with_bytes() -> None:
    with pytest.raises(InfeasiblePlanError, match=r"needs [\d,]+ bytes .* it offers 1,048,576") as caught:
        plan(graph("openworld-small"), Cluster.local([1.0, 0.6], memory="1 MiB"))

    assert caught.value.constraint == "memory"
    assert caught.value.available == 1 << 20
    assert caught.value.required is not None
    assert caught.value.required > 1 << 20


def test_plans_are_the_same_each_time() -> None:
    cluster = Cluster.local([1.0, 0.5, 0.7], bandwidth="10 Gbit/s")

    assert plan(graph("tiny-vit"), cluster).fingerprint == plan(graph("tiny-vit"), cluster).fingerprint
