"""Paths: which resources a transfer takes its turn at, and how fast it passes them, by hand."""

from __future__ import annotations

import pytest

from edgeflow.cluster import Cluster, Device, Hop, Link, Segment
from edgeflow.errors import InfeasiblePlanError

MS = 1e-3
WIRE = Link(bandwidth_bytes_per_s=100.0, latency_s=1 * MS)


def device(name: str, **rates: float) -> Device:
    return Device(name=name, flops_per_second=1e9, memory_bytes=1 << 30, **rates)  # type: ignore[arg-type]


def cluster(
    *segments: Segment, links: tuple[tuple[str, str, Link | None], ...] = (), **rates: float
) -> Cluster:
    """Devices a, b and c on a switch; ``rates`` are those of a."""
    devices = (device("a", **rates), device("b"), device("c"))
    return Cluster(devices=devices, network=WIRE, links=links, segments=segments)


def wifi(*members: str, is_relayed: bool = False) -> Segment:
    return Segment(
        name="wifi",
        kind="medium",
        members=members,
        bandwidth_bytes_per_s=10.0,
        latency_s=4 * MS,
        is_relayed=is_relayed,
    )


def host(*members: str) -> Segment:
    return Segment(name="host", kind="uplink", members=members, bandwidth_bytes_per_s=50.0)


def test_on_a_switch_each_device_has_an_interface_of_its_own() -> None:
    path = cluster().path(0, 1)

    assert path.hops == (Hop("egress:a", 100.0, 1 * MS), Hop("ingress:b", 100.0))
    assert path.link == WIRE
    assert path.seconds(100) == pytest.approx(1.001)


def test_an_interface_that_is_slower_than_the_link_sets_the_rate() -> None:
    path = cluster(upload_bytes_per_s=25.0).path(0, 1)

    assert path.hops == (Hop("egress:a", 25.0, 1 * MS), Hop("ingress:b", 100.0))
    assert path.link.bandwidth_bytes_per_s == 25.0


def test_an_interface_that_is_faster_than_the_link_serves_others_meanwhile() -> None:
    """Then the pair's link is a resource too, and the slowest."""
    slow = Link(bandwidth_bytes_per_s=20.0, latency_s=0.0)
    made = Cluster(
        devices=(device("a", upload_bytes_per_s=400.0), device("b", download_bytes_per_s=300.0)), network=slow
    )

    path = made.path(0, 1)

    assert path.hops == (Hop("egress:a", 400.0), Hop("link:a->b", 20.0), Hop("ingress:b", 300.0))
    assert path.link.bandwidth_bytes_per_s == 20.0


def test_every_transfer_of_a_member_is_on_the_medium() -> None:
    made = cluster(wifi("a", "b"))

    assert [hop.resource for hop in made.path(0, 1).hops] == ["medium:wifi"]
    assert [hop.resource for hop in made.path(0, 2).hops] == ["medium:wifi", "ingress:c"]
    assert [hop.resource for hop in made.path(2, 0).hops] == ["egress:c", "medium:wifi"]
    assert made.path(0, 1).link == Link(bandwidth_bytes_per_s=10.0, latency_s=5 * MS)


def test_an_access_point_puts_a_transfer_between_members_on_the_air_twice() -> None:
    made = cluster(wifi("a", "b", is_relayed=True))

    assert made.path(0, 1).link.bandwidth_bytes_per_s == 5.0
    assert made.path(0, 2).link.bandwidth_bytes_per_s == 10.0


def test_a_member_may_have_a_rate_of_its_own_beside_the_mediums() -> None:
    path = cluster(wifi("a", "b"), upload_bytes_per_s=2.0).path(0, 1)

    assert path.hops == (Hop("egress:a", 2.0, 1 * MS), Hop("medium:wifi", 10.0, 4 * MS))
    assert path.link == Link(bandwidth_bytes_per_s=2.0, latency_s=5 * MS)


def test_two_media_are_both_on_the_path() -> None:
    attic = Segment(name="attic", kind="medium", members=("b",), bandwidth_bytes_per_s=5.0)
    path = cluster(wifi("a"), attic).path(0, 1)

    assert [hop.resource for hop in path.hops] == ["medium:wifi", "medium:attic"]
    assert path.link.bandwidth_bytes_per_s == 5.0


def test_machines_of_one_host_reach_the_others_through_one_interface() -> None:
    made = cluster(host("a", "b"))

    assert [hop.resource for hop in made.path(0, 2).hops] == ["egress:a", "uplink:host:out", "ingress:c"]
    assert [hop.resource for hop in made.path(2, 1).hops] == ["egress:c", "uplink:host:in", "ingress:b"]
    assert [hop.resource for hop in made.path(0, 1).hops] == ["egress:a", "ingress:b"]
    assert made.path(0, 2).link.bandwidth_bytes_per_s == 50.0


def test_the_client_uses_the_interface_of_the_sources_host() -> None:
    made = cluster()

    assert made.path(-1, 1) == made.path(0, 1)
    assert made.path(-1, 0).is_local
    assert made.path(1, 1).is_local


def test_a_pair_without_a_link_is_named_when_a_transfer_needs_it() -> None:
    made = cluster(links=(("b", "c", None),))

    assert not made.is_connected(1, 2)
    assert made.distance_s(1, 2, 1) == float("inf")
    assert made.is_connected(2, 1)
    with pytest.raises(InfeasiblePlanError, match="no link from device 'b' to 'c'") as caught:
        made.path(1, 2)
    assert caught.value.constraint == "link"


def test_a_path_is_found_once() -> None:
    made = cluster()

    assert made.path(0, 1) is made.path(0, 1)
