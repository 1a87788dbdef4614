"""`single`: the best device that can hold the model."""

from __future__ import annotations

import msgspec

from edgeflow.cluster.cluster import Cluster
from edgeflow.planner import plan
from tests.unit.planner.graphs import graph


def test_single_takes_the_fastest_device() -> None:
    made = plan(graph("unet"), Cluster.local([0.3, 1.0, 0.6], bandwidth="10 Gbit/s"), strategy="single")

    assert made.devices == (1,)
    assert [item.label for item in made.candidates] == [f"single on device{rank}" for rank in (1, 2, 0)]


def test_single_stays_where_requests_arrive_when_the_way_is_long() -> None:
    made = plan(graph("unet"), Cluster.local([0.8, 1.0], bandwidth="1 Mbit/s"), strategy="single")

    assert made.devices == (0,)


def test_single_takes_the_best_device_that_can_hold_the_model() -> None:
    cluster = Cluster.local([1.0, 0.5], memory="2 GiB")
    small = msgspec.structs.replace(cluster.devices[0], memory_bytes=100_000)
    cluster = msgspec.structs.replace(cluster, devices=(small, cluster.devices[1]))

    made = plan(graph("tiny-resnet"), cluster, strategy="single")

    assert made.devices == (1,)
    failed = next(item for item in made.candidates if item.label == "single on device0")
    assert failed.latency_s is None
    assert "'device0' needs" in failed.reason
