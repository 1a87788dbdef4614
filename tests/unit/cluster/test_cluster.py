"""Clusters: checked when they are made, and links that do what they say."""

from __future__ import annotations

import dataclasses

import msgspec
import pytest

from edgeflow.cluster import Cluster, Device, Link, Segment
from edgeflow.errors import ConfigError

GIGABIT = Link(bandwidth_bytes_per_s=125e6, latency_s=0.2e-3)


def device(name: str, flops_per_second: float = 1e9, **more: float) -> Device:
    return Device(name=name, flops_per_second=flops_per_second, memory_bytes=2**30, **more)  # type: ignore[arg-type]


def segment(name: str) -> Segment:
    return Segment(name=name, kind="medium", members=("a",), bandwidth_bytes_per_s=1e6)


def test_local_devices_keep_their_ratios() -> None:
    cluster = Cluster.local([1.0, 0.5, 0.25])

    assert cluster.relative_speeds == (1.0, 0.5, 0.25)
    assert [d.name for d in cluster.devices] == ["device0", "device1", "device2"]
    assert list(cluster.ranks) == [0, 1, 2]


def test_local_reads_quantities_with_units() -> None:
    cluster = Cluster.local([1.0], bandwidth="100 Mbit/s", latency="2 ms", memory="512 MiB")

    assert cluster.network == Link(bandwidth_bytes_per_s=12.5e6, latency_s=2e-3)
    assert cluster.devices[0].memory_bytes == 512 * 2**20


def test_a_slower_device_takes_longer_to_start_an_operator() -> None:
    fast, slow = Cluster.local([1.0, 0.25]).devices

    assert slow.overhead_s == pytest.approx(4 * fast.overhead_s)


def test_seconds_of_a_link_are_latency_and_bytes() -> None:
    assert GIGABIT.seconds(125_000) == pytest.approx(0.2e-3 + 1e-3)


def test_a_named_link_goes_one_way_only() -> None:
    slow = Link(bandwidth_bytes_per_s=1e6, latency_s=5e-3)
    cluster = Cluster(devices=(device("a"), device("b")), network=GIGABIT, links=(("a", "b", slow),))

    assert cluster.link(0, 1) == slow
    assert cluster.link(1, 0) == GIGABIT


def test_the_client_sits_on_the_host_of_the_source() -> None:
    slow = Link(bandwidth_bytes_per_s=1e6, latency_s=5e-3)
    cluster = Cluster(
        devices=(device("a"), device("b")), network=GIGABIT, links=(("b", "a", slow),), source="b"
    )

    assert cluster.source_rank == 1
    assert cluster.link(-1, 0) == slow
    assert cluster.link(0, -1) == GIGABIT
    assert cluster.link(-1, 1).bandwidth_bytes_per_s > GIGABIT.bandwidth_bytes_per_s


def test_a_device_reaches_itself_through_memory() -> None:
    cluster = Cluster.local([1.0, 1.0], bandwidth="1 Mbit/s")

    assert cluster.link(1, 1).bandwidth_bytes_per_s > 1e9


def test_a_device_may_be_reached_over_others() -> None:
    """Activations go from worker to worker, so a chain is enough."""
    links = tuple((a, b, GIGABIT) for a, b in ("ab", "ba", "bc", "cb"))

    cluster = Cluster(devices=(device("a"), device("b"), device("c")), network=None, links=links)

    assert not cluster.is_connected(0, 2)


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="no device 'c'; devices: device0, device1"):
        Cluster.local([1.0, 1.0]).rank_of("c")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Cluster(name="x", devices=(), network=GIGABIT), "cluster 'x' has no devices"),
        (lambda: Cluster(devices=(device("a"), device("a")), network=GIGABIT), "2 devices are called 'a'"),
        (lambda: Cluster(devices=(device("a", 0),), network=GIGABIT), "flops_per_second must be positive"),
        (lambda: Cluster(devices=(device("a", float("nan")),), network=GIGABIT), "got nan"),
        (lambda: Cluster(devices=(device("a", overhead_s=-1),), network=GIGABIT), "overhead_s must be"),
        (
            lambda: Cluster(devices=(device("a"),), network=Link(bandwidth_bytes_per_s=0, latency_s=0)),
            "network: bandwidth_bytes_per_s must be positive and finite, got 0",
        ),
        (
            lambda: Cluster(devices=(device("a"),), network=GIGABIT, links=(("a", "z", GIGABIT),)),
            "no device 'z'",
        ),
        (lambda: Cluster(devices=(device("a"),), network=GIGABIT, source="z"), "no device 'z'"),
        (lambda: Cluster.local([]), "no devices"),
        (
            lambda: Cluster(
                devices=(device("a"), device("b")),
                network=None,
                links=(("a", "b", GIGABIT), ("a", "b", None)),
            ),
            "link a->b is given 2 times",
        ),
        (
            lambda: Cluster(devices=(device("a"), device("b"), device("c")), network=None),
            "2 of 3 devices cannot be reached from the source 'a' over any links: b, c",
        ),
        (
            lambda: Cluster(devices=(device("a"), device("b")), network=None, links=(("a", "b", GIGABIT),)),
            "1 of 2 devices cannot be heard by the source 'a' over any links: b",
        ),
        (
            lambda: Cluster(devices=(device("a"),), network=GIGABIT, segments=(segment("w"), segment("w"))),
            "2 media or uplinks are called 'w'",
        ),
        (
            lambda: Cluster(devices=(device("a"),), network=GIGABIT, segments=(segment("v"), segment("w"))),
            "device 'a' is a member of 2 media: 'v' and 'w'",
        ),
        (
            lambda: Cluster(devices=(device("a", joules_per_byte_sent=-1),), network=GIGABIT),
            "joules_per_byte_sent must be finite and not negative, got -1",
        ),
        (lambda: Cluster.local([1.0, 0.0]), "device 'device1': flops_per_second must be positive"),
        (lambda: Cluster.local([-1.0]), "got -4e\\+10"),
        (lambda: Cluster.local([1.0], memory="0 B"), "memory_bytes must be positive"),
        (lambda: Cluster.local([1.0], latency="-1 ms"), "latency_s must be finite and not negative"),
        (lambda: Cluster.local([1.0], bandwidth="1 Gb"), "bandwidth: unknown unit 'Gb'"),
    ],
)
def test_what_cannot_be_is_refused_with_the_number(make: object, said: str) -> None:
    assert callable(make)
    with pytest.raises(ConfigError, match=said):
        make()


def test_a_cluster_survives_json() -> None:
    """Plans carry their cluster, so it must come back equal."""
    cluster = Cluster(
        devices=(device("a"), device("b", 2e9)), network=GIGABIT, links=(("a", "b", GIGABIT),), source="b"
    )

    assert msgspec.json.decode(msgspec.json.encode(cluster), type=Cluster) == cluster


def test_a_cluster_cannot_be_changed() -> None:
    with pytest.raises((AttributeError, dataclasses.FrozenInstanceError)):
        Cluster.local([1.0]).name = "other"  # type: ignore[misc]
