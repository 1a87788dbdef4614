"""`deeperthings`: convolutions split by channels, in chains."""

from __future__ import annotations

from torch import nn

from edgeflow.cluster.cluster import Cluster
from edgeflow.plan import Plan
from edgeflow.planner import plan
from edgeflow.planner.analysis import analysis_of
from edgeflow.planner.strategies.deeperthings import chains, cheapest
from tests.unit.planner.graphs import Branches, captured


def lengths(made: Plan, tensor: str, dim: int) -> dict[int, int]:
    """Device -> length of what it makes of a tensor, handed-over copies aside."""
    return {
        shard.device: piece.region[dim].length
        for stage in made.stages
        if stage.operators
        for shard in stage.shards
        if (piece := shard.piece(tensor)) is not None
    }


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
