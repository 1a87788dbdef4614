"""The devices and layouts that a search may choose from."""

from __future__ import annotations

from edgeflow.cluster.cluster import Cluster, Device, Link
from edgeflow.cost import CostModel
from edgeflow.planner.search.space import linked_devices


def test_devices_that_cannot_reach_each_other_are_not_chosen_together() -> None:
    devices = tuple(Device(name=n, flops_per_second=1e9, memory_bytes=1 << 30) for n in "abc")
    cluster = Cluster(
        devices=devices,
        network=Link(bandwidth_bytes_per_s=1e6, latency_s=0.0),
        links=(("b", "c", None),),
    )
    cost = CostModel(cluster=cluster)

    assert linked_devices(cost, (0, 1, 2)) == (0, 1)
    assert linked_devices(cost, (2, 1, 0)) == (2, 0)
