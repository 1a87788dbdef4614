"""Published strategies of CNNs on clusters of every shape, and on one that is too small."""

from __future__ import annotations

import pytest
import torch

from edgeflow.cluster.cluster import Cluster
from edgeflow.errors import InfeasiblePlanError
from edgeflow.graph.ir import ModelGraph
from edgeflow.planner import plan
from tests.unit.planner.graphs import Branches, captured

_FREE = "100 Gbit/s"


def branches() -> ModelGraph:
    return captured(Branches(), 1, 3, 8, 8)


@pytest.mark.parametrize("strategy", ["modnn", "deepthings", "deeperthings"])
@pytest.mark.parametrize("speeds", [[1.0], [1.0, 0.01], [0.2, 1.0, 0.7, 0.1, 0.5, 0.3, 0.9]])
def test_a_plan_for_any_cluster(strategy: str, speeds: list[float]) -> None:
    from edgeflow.rank.local import execute

    model = branches()
    made = plan(model, Cluster.local(speeds, bandwidth=_FREE, latency=0), strategy=strategy)
    alone = plan(model, Cluster.local(), strategy="single")

    x_NCHW = torch.randn(1, 3, 8, 8)
    torch.testing.assert_close(execute(made, (x_NCHW,)), execute(alone, (x_NCHW,)))


@pytest.mark.parametrize("strategy", ["modnn", "deepthings", "deeperthings"])
def test_what_does_not_fit_is_refused_with_the_device_and_the_bytes(strategy: str) -> None:
    cluster = Cluster.local([1.0, 0.5], memory=1000)

    with pytest.raises(
        InfeasiblePlanError, match=r"device 'device\d' needs [\d,]+ bytes .* offers 1,000"
    ) as e:
        plan(branches(), cluster, strategy=strategy)

    assert (e.value.constraint, e.value.available) == ("memory", 1000)
