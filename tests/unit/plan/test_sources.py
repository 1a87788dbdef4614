"""Regions are covered by the rank itself first, then by the nearest owners."""

from __future__ import annotations

import msgspec

from edgeflow.cluster.cluster import Cluster, Link
from edgeflow.plan.sources import Owner, find_sources
from edgeflow.sharding.region import Region

_CLUSTER = Cluster.local([1.0] * 4)


def box(start: int, stop: int) -> Region:
    return Region.of([(start, stop)])


def test_nothing_is_asked_for_that_is_there() -> None:
    found = find_sources(_CLUSTER, 0, box(2, 6), 32, (box(0, 8),), (Owner(1, box(0, 8), False),))

    assert (found.here, found.there, found.missing) == ([(0, box(2, 6))], [], ())


def test_the_rest_comes_from_owners_and_gaps_are_named() -> None:
    owners = (Owner(1, box(0, 3), False), Owner(2, box(5, 8), False))

    found = find_sources(_CLUSTER, 0, box(0, 8), 32, (box(2, 4),), owners)

    assert found.here == [(0, box(2, 4))]
    assert found.there == [(0, [box(0, 2)]), (1, [box(5, 8)])]
    assert found.missing == (box(4, 5),)


def test_among_equals_the_next_rank_supplies() -> None:
    owners = tuple(Owner(rank, box(0, 8), False) for rank in (0, 1, 3))

    assert find_sources(_CLUSTER, 2, box(0, 8), 32, (), owners).there == [(2, [box(0, 8)])]


def test_a_faster_link_supplies() -> None:
    fast = Link(bandwidth_bytes_per_s=1e12, latency_s=0.0)
    cluster = msgspec.structs.replace(_CLUSTER, links=(("device0", "device2", fast),))
    owners = tuple(Owner(rank, box(0, 8), False) for rank in (0, 1, 3))

    assert find_sources(cluster, 2, box(0, 8), 32, (), owners).there == [(0, [box(0, 8)])]


def test_a_claimed_piece_is_asked_for_also_where_it_may_have_been_made() -> None:
    for is_claimed, there in ((False, []), (True, [(0, [box(0, 8)])])):
        found = find_sources(_CLUSTER, 1, box(0, 8), 32, (), (Owner(1, box(0, 8), is_claimed),))
        assert found.there == there
