"""What MoDNN, DeepThings and DeeperThings decide, on networks and clusters of every shape."""

from __future__ import annotations

import msgspec
import pytest
import torch
from torch import Tensor, nn

from edgeflow.cluster.cluster import Cluster
from edgeflow.cost import CostModel
from edgeflow.errors import InfeasiblePlanError
from edgeflow.graph.ir import ModelGraph
from edgeflow.plan import Plan
from edgeflow.plan.verify import memory_bytes
from edgeflow.planner import plan
from edgeflow.planner.analysis import analysis_of
from edgeflow.planner.layouts.partition import apportioned
from edgeflow.planner.strategies.deeperthings import chains, cheapest
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


# MoDNN


def test_strips_are_in_proportion_to_speed_by_largest_remainder() -> None:
    assert [i.length for i in apportioned(10, [1.0, 0.5, 0.3])] == [5, 3, 2]
    assert [i.length for i in apportioned(3, [1.0, 0.0, 0.2, 0.1])] == [2, 0, 1, 0]


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


# DeepThings


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


# DeeperThings


def test_deeperthings_splits_filters() -> None:
    """Every device holds its share of the weights only: what a cluster of small devices needs."""
    cluster = Cluster.local([1.0, 1.0, 1.0, 1.0])
    layers = [nn.Conv2d(8, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 8, 3, padding=1), nn.ReLU()]
    model = captured(nn.Sequential(*layers), 1, 8, 6, 6)

    made = plan(model, cluster, strategy="deeperthings")

    pair, summed, rest = made.stages
    assert pair.operators == ("conv2d", "relu", "conv2d_1")
    assert [piece.contraction for shard in pair.shards for _, piece in shard.outputs] == [
        (0, 16),
        (16, 32),
        (32, 48),
        (48, 64),
    ]
    assert (summed.operators, summed.devices, rest.devices) == ((), (0,), (0,))
    for program in (made.programs[rank] for rank in cluster.ranks):
        filters = sum(item.region.num_elements for item in program.weights if len(item.region) == 4)
        assert filters == 2 * 8 * 64 * 9 // 4


def test_deeperthings_shares_channels_out_by_speed() -> None:
    model = captured(nn.Conv2d(32, 60, 1), 1, 32, 2, 2)

    made = plan(model, Cluster.local([1.0, 0.5, 0.5]), strategy="deeperthings")

    assert lengths(made, "conv2d", 1) == {0: 30, 1: 15, 2: 15}


class Branches(nn.Module):
    """Two chains that begin at one map, and a grouped convolution in one of them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.a = nn.Conv2d(16, 16, 3, padding=1, groups=4)
        self.b = nn.Conv2d(16, 16, 1)
        self.c = nn.Conv2d(16, 16, 3, padding=1)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        y_NCHW = self.stem(x_NCHW).relu()
        z_NCHW: Tensor = self.b(self.a(y_NCHW).relu()) + self.c(y_NCHW)
        return z_NCHW


def test_a_chain_ends_where_several_read() -> None:
    model = captured(Branches(), 1, 3, 8, 8)

    found = chains(analysis_of(model))

    assert [[item.members[0].name for item in chain] for chain in found] == [
        ["conv2d"],
        ["conv2d_1", "conv2d_2"],
        ["conv2d_3"],
    ]
    assert [item.may_sum for item in found[1]] == [False, True]
    ways, _ = cheapest(found[1], 3)
    assert ways[0] not in ("input", "second")


@pytest.mark.parametrize("strategy", ["modnn", "deepthings", "deeperthings"])
@pytest.mark.parametrize("speeds", [[1.0], [1.0, 0.01], [0.2, 1.0, 0.7, 0.1, 0.5, 0.3, 0.9]])
def test_a_plan_for_any_cluster(strategy: str, speeds: list[float]) -> None:
    from edgeflow.rank.local import execute

    model = branches()
    made = plan(model, Cluster.local(speeds, bandwidth=_FREE, latency=0), strategy=strategy)
    alone = plan(model, Cluster.local(), strategy="single")

    x_NCHW = torch.randn(1, 3, 8, 8)
    torch.testing.assert_close(execute(made, (x_NCHW,)), execute(alone, (x_NCHW,)))


def branches() -> ModelGraph:
    return captured(Branches(), 1, 3, 8, 8)


@pytest.mark.parametrize("strategy", ["modnn", "deepthings", "deeperthings"])
def test_what_does_not_fit_is_refused_with_the_device_and_the_bytes(strategy: str) -> None:
    cluster = Cluster.local([1.0, 0.5], memory=1000)

    with pytest.raises(
        InfeasiblePlanError, match=r"device 'device\d' needs [\d,]+ bytes .* offers 1,000"
    ) as e:
        plan(branches(), cluster, strategy=strategy)

    assert (e.value.constraint, e.value.available) == ("memory", 1000)
