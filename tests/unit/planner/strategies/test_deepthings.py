"""`deepthings`: fused tiles, the rest on the gateway."""

from __future__ import annotations

import msgspec
import pytest
from torch import nn

from edgeflow.cluster.cluster import Cluster
from edgeflow.cost import CostModel
from edgeflow.errors import InfeasiblePlanError
from edgeflow.plan.verify import memory_bytes
from edgeflow.planner import plan
from tests.unit.planner.graphs import captured, graph

_FREE = "100 Gbit/s"


def free(cluster: Cluster) -> CostModel:
    return CostModel(cluster=cluster, message_overhead_s=0.0)


def test_deepthings_runs_the_rest_on_the_gateway() -> None:
    cluster = msgspec.structs.replace(
        Cluster.local([1.0, 0.5, 0.5], bandwidth=_FREE, latency=0), source="device1"
    )

    made = plan(graph("tiny-resnet"), cluster, strategy="deepthings", cost=free(cluster))

    tiles = [stage for stage in made.stages if stage.kind == "tiles"]
    assert set(made.devices) == {0, 1, 2}
    assert made.stages[: len(tiles)] == tuple(tiles)
    assert [stage.devices for stage in made.stages[len(tiles) :]] == [(1,)]
    assert len(made.candidates) == 4


def test_deepthings_on_a_text_encoder_is_the_gateway_alone() -> None:
    made = plan(graph("tiny-bert"), Cluster.local([0.5, 1.0]), strategy="deepthings")

    assert made.devices == (0,)
    assert made.chosen == "deepthings on the gateway alone"


def test_deepthings_takes_tiles_in_turn_where_whole_maps_do_not_fit() -> None:
    layers = [nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 1, 1)]
    model = captured(nn.Sequential(*layers), 1, 1, 128, 128)
    (needed,) = memory_bytes(plan(model, Cluster.local(), strategy="single").programs).values()
    small = Cluster.local([1.0], memory=needed // 2)

    with pytest.raises(InfeasiblePlanError):
        plan(model, small, strategy="single")
    made = plan(model, small, strategy="deepthings")

    assert made.stages[0].kind == "single"
    assert len(made.stages[0].shards) > 1
    assert memory_bytes(made.programs)[0] <= needed // 2
