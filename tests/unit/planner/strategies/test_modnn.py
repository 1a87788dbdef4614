"""`modnn`: strips along the longer edge, gathered after each layer."""

from __future__ import annotations

import msgspec
import pytest
from torch import nn

from edgeflow.cluster.cluster import Cluster
from edgeflow.cost import CostModel
from edgeflow.plan import Plan
from edgeflow.planner import plan
from tests.unit.planner.graphs import captured, graph

_FREE = "100 Gbit/s"


def lengths(made: Plan, tensor: str, dim: int) -> dict[int, int]:
    """Device -> length of what it makes of a tensor, handed-over copies aside."""
    return {
        shard.device: piece.region[dim].length
        for stage in made.stages
        if stage.operators
        for shard in stage.shards
        if (piece := shard.piece(tensor)) is not None
    }


def free(cluster: Cluster) -> CostModel:
    return CostModel(cluster=cluster, message_overhead_s=0.0)


def test_modnn_cuts_the_longer_edge() -> None:
    wide = captured(nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU()), 1, 3, 8, 30)

    made = plan(wide, Cluster.local([1.0, 0.5]), strategy="modnn")

    assert [stage.kind for stage in made.stages] == ["rows", "gather"]
    assert made.stages[0].operators == ("conv2d", "relu")
    assert lengths(made, "relu", 3) == {0: 20, 1: 10}


def test_modnn_gathers_at_the_device_where_requests_arrive() -> None:
    cluster = msgspec.structs.replace(Cluster.local([1.0, 0.5, 0.5]), source="device2")

    made = plan(graph("tiny-resnet"), cluster, strategy="modnn")

    gathers = [stage for stage in made.stages if not stage.operators]
    assert {stage.devices for stage in gathers} == {(2,)}
    convolutions = [op for op in graph("tiny-resnet").operators if "conv" in op.target]
    assert len(gathers) == len(convolutions)
    assert all(stage.devices == (2,) for stage in made.stages if stage.kind == "single")


@pytest.mark.parametrize(("bandwidth", "is_split"), [("100 Gbit/s", True), ("1 Mbit/s", False)])
def test_modnn_splits_a_fully_connected_layer_where_that_is_faster(bandwidth: str, is_split: bool) -> None:
    large = captured(nn.Linear(512, 512), 16, 512)
    cluster = Cluster.local([1.0, 1.0], bandwidth=bandwidth, latency=0)

    made = plan(large, cluster, strategy="modnn", cost=free(cluster))

    assert lengths(made, "linear", 1) == ({0: 256, 1: 256} if is_split else {0: 512})
