"""Clusters for tests that need a split to pay: slow devices, a fast network, nothing for starting a call."""

from __future__ import annotations

from collections.abc import Sequence

from edgeflow.cluster.cluster import Cluster, Device, Link


def slow(speeds: Sequence[float]) -> Cluster:
    """Devices of these relative speeds; workers that emulate them are as unequal, not as slow."""
    devices = tuple(
        Device(name=f"device{rank}", flops_per_second=1e8 * speed, memory_bytes=1 << 32, overhead_s=0.0)
        for rank, speed in enumerate(speeds)
    )
    return Cluster(devices=devices, network=Link(bandwidth_bytes_per_s=1e9, latency_s=1e-5))
