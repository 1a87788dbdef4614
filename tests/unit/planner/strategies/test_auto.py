"""`auto` chooses the plan that is predicted best."""

from __future__ import annotations

import msgspec
import pytest

from edgeflow.cluster.cluster import Cluster, Device, Link
from edgeflow.cost import CostModel
from edgeflow.errors import InfeasiblePlanError
from edgeflow.planner import plan
from tests.unit.planner.graphs import graph


def test_auto_stays_on_one_device_on_a_slow_network() -> None:
    made = plan(graph("tiny-resnet"), Cluster.local([1.0, 1.0, 1.0], bandwidth="1 Mbit/s"))

    assert made.devices == (0,)
    assert "one device alone is faster than any split" in made.explain()


def test_auto_is_nearly_twice_as_fast_on_two_devices_on_a_perfect_network() -> None:
    device = Device(
        name="device0",
        flops_per_second=4e10,
        memory_bytes=1 << 30,
        memory_bandwidth_bytes_per_s=1e12,
        overhead_s=0.0,
    )
    cluster = Cluster(
        devices=(device, msgspec.structs.replace(device, name="device1")),
        network=Link(bandwidth_bytes_per_s=100e9 / 8, latency_s=0.0),
    )
    cost = CostModel(cluster=cluster, message_overhead_s=0.0)

    alone = plan(graph("tiny-resnet"), cluster, strategy="single", cost=cost).predicted_latency_s
    together = plan(graph("tiny-resnet"), cluster, cost=cost).predicted_latency_s

    assert 1.85 < alone / together <= 2.0


def test_auto_mixes_rows_and_tensor_parallelism_where_no_device_holds_everything() -> None:
    """A hybrid of 17 MB of weights on devices of 15 MiB: rows for the CNN, heads and columns after it.

    Where messages cost little; else one device hands over to another.
    """
    cluster = Cluster.local([1.0, 0.9, 0.8], memory="15 MiB", bandwidth="10 Gbit/s", latency="20 us")

    made = plan(graph("openworld-small"), cluster)

    kinds = [stage.kind for stage in made.stages]
    assert "rows" in kinds
    assert "tensor" in kinds
    assert max(index for index, kind in enumerate(kinds) if kind == "rows") < kinds.index("tensor")
    with pytest.raises(InfeasiblePlanError):
        plan(graph("openworld-small"), cluster, strategy="single")


def test_auto_weighs_every_other_strategy() -> None:
    made = plan(graph("tiny-vit"), Cluster.local([1.0, 0.5]))

    labels = [item.label for item in made.candidates]
    for word in ("single on device0", "coedge", "megatron", "search"):
        assert any(label.startswith(word) for label in labels), word
    latencies = [item.latency_s for item in made.candidates if item.latency_s is not None]
    assert made.predicted_latency_s == min(latencies)
    assert latencies == sorted(latencies)
