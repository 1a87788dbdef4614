"""`megatron`: whole heads and hidden columns in unequal shares."""

from __future__ import annotations

import pytest

from edgeflow.cluster.cluster import Cluster
from edgeflow.plan import Plan
from edgeflow.planner import plan
from edgeflow.sharding.region import Interval
from tests.unit.planner.graphs import graph


def contractions(made: Plan) -> list[list[Interval]]:
    """For each stage that sums, the devices' intervals."""
    found = [
        [piece.contraction for shard in stage.shards for _, piece in shard.outputs if piece.contraction]
        for stage in made.stages
    ]
    return [item for item in found if item]


@pytest.mark.parametrize("speeds", [[1.0, 1.0], [1.0, 0.5], [1.0, 0.7, 0.3], [0.2, 0.9, 0.5, 0.4, 1.0]])
def test_megatron_gives_whole_heads_in_unequal_shares(speeds: list[float]) -> None:
    """Two blocks of 6 heads of 16 features, each followed by 384 hidden columns, in blocks of 8."""
    made = plan(graph("tiny-vit"), Cluster.local(speeds), strategy="megatron")

    heads = [items for items in contractions(made) if items[-1].stop == 96]
    columns = [items for items in contractions(made) if items[-1].stop == 384]

    assert len(heads) == len(columns) == 2
    assert all(bound % 16 == 0 for items in heads for interval in items for bound in interval)
    for items in columns:
        lengths = [interval.length for interval in items]
        assert lengths == pytest.approx([384 * speed / sum(speeds) for speed in speeds], abs=8)
        assert all(length % 8 == 0 for length in lengths)


def test_megatron_needs_less_memory_on_each_device_than_one_would() -> None:
    cluster = Cluster.local([1.0] * 4)

    alone = plan(graph("tiny-vit"), cluster, strategy="single").programs[0]
    together = plan(graph("tiny-vit"), cluster, strategy="megatron").programs

    weights = [sum(item.num_bytes for item in together[rank].weights) for rank in range(1, 4)]
    assert max(weights) < 0.5 * sum(item.num_bytes for item in alone.weights)
