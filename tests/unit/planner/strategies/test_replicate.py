"""`replicate`: the whole model on several devices."""

from __future__ import annotations

import msgspec
import pytest

from edgeflow.cluster.cluster import Cluster
from edgeflow.planner import plan
from tests.unit.planner.graphs import graph


@pytest.mark.parametrize("objective", ["latency", "energy"])
def test_energy_of_replicas_is_that_of_the_way_that_a_request_goes(objective: str) -> None:
    """Not that of a mixture with slower ways, whose latency is not the plan's."""
    cluster = Cluster.local([1.0, 0.2])
    watts = (100.0, 1.0)
    devices = tuple(
        msgspec.structs.replace(device, power_compute_w=power)
        for device, power in zip(cluster.devices, watts, strict=True)
    )
    cluster = msgspec.structs.replace(cluster, devices=devices)
    fast = plan(graph("tiny-resnet"), cluster, "single")

    both = plan(graph("tiny-resnet"), cluster, "replicate", objective, deadline_s=fast.predicted_latency_s)

    assert len(both.ways) == 2
    assert both.predicted_latency_s == fast.predicted_latency_s
    assert both.predicted_energy_j == fast.predicted_energy_j
