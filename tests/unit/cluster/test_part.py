"""A cluster without some of its devices or links."""

from __future__ import annotations

import msgspec
import pytest

from edgeflow.cluster import Cluster, Link, Segment
from edgeflow.cluster.part import part_of
from edgeflow.errors import ConfigError

WHOLE = msgspec.structs.replace(
    Cluster.local([1.0, 0.5, 0.25]),
    links=(("device0", "device2", Link(bandwidth_bytes_per_s=1e6, latency_s=1e-3)),),
    segments=(
        Segment(name="air", kind="medium", members=("device1", "device2"), bandwidth_bytes_per_s=1e7),
        Segment(name="box", kind="uplink", members=("device2",), bandwidth_bytes_per_s=1e8),
    ),
    source="device1",
)


def test_all_of_it_is_the_same_cluster() -> None:
    assert part_of(WHOLE, {"device0", "device1", "device2"}) is WHOLE


def test_devices_keep_their_order_and_the_source() -> None:
    part = part_of(WHOLE, {"device2", "device1"})
    assert [device.name for device in part.devices] == ["device1", "device2"]
    assert part.devices[part.source_rank].name == "device1"
    assert part.links == ()  # device0, one end of the link, is gone


def test_a_source_that_is_gone_is_replaced_by_the_first_device_left() -> None:
    part = part_of(WHOLE, {"device0", "device2"})
    assert part.source == "device0"
    assert part.links == WHOLE.links


def test_segments_lose_members_and_empty_ones_are_dropped() -> None:
    assert part_of(WHOLE, {"device0", "device1"}).segments == (
        Segment(name="air", kind="medium", members=("device1",), bandwidth_bytes_per_s=1e7),
    )


def test_a_cut_pair_has_no_link_either_way() -> None:
    part = part_of(WHOLE, {"device0", "device1", "device2"}, cut=[("device0", "device2")])
    assert not part.is_connected(0, 2) and not part.is_connected(2, 0)
    assert part.is_connected(0, 1) and part.is_connected(1, 2)


def test_a_device_that_cannot_be_reached_any_more_is_an_error() -> None:
    with pytest.raises(ConfigError, match="device2"):
        part_of(
            WHOLE, {"device0", "device1", "device2"}, cut=[("device0", "device2"), ("device1", "device2")]
        )


def test_nothing_left_is_an_error() -> None:
    with pytest.raises(ConfigError, match="no devices"):
        part_of(WHOLE, ())
