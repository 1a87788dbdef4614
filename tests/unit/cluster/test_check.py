"""Parts of a cluster are checked before there is a cluster; each error shows the wrong number or name."""

from __future__ import annotations

from typing import Any

import pytest

from edgeflow.cluster.check import check_parts
from edgeflow.cluster.device import Device
from edgeflow.cluster.network import Link, Segment
from edgeflow.errors import ConfigError

LINK = Link(bandwidth_bytes_per_s=1e8, latency_s=1e-3)


def device(name: str, **fields: Any) -> Device:
    return Device(**{"name": name, "flops_per_second": 1e9, "memory_bytes": 1 << 30, **fields})


def medium(name: str, *members: str, **fields: Any) -> Segment:
    return Segment(
        **{"name": name, "kind": "medium", "members": members, "bandwidth_bytes_per_s": 1e7, **fields}
    )


PAIR = (device("a"), device("b"))


def test_sane_parts_pass() -> None:
    check_parts("home", PAIR, LINK, (("a", "b", None),), (medium("air", "a", "b"),))


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (((), LINK, (), ()), "cluster 'home' has no devices"),
        (((device("a"), device("a")), LINK, (), ()), "2 devices are called 'a'"),
        (((device("a", flops_per_second=0.0),), LINK, (), ()), "flops_per_second must be positive.* got 0"),
        (((device("a", power_idle_w=-1.0),), LINK, (), ()), "power_idle_w must be .*not negative, got -1"),
        (((device("a", upload_bytes_per_s=float("nan")),), LINK, (), ()), "upload_bytes_per_s .* got nan"),
        ((PAIR, Link(bandwidth_bytes_per_s=-1.0, latency_s=0.0), (), ()), "network: bandwidth.* got -1"),
        ((PAIR, LINK, (("a", "c", LINK),), ()), "no device 'c'; devices: a, b"),
        ((PAIR, LINK, (("a", "a", LINK),), ()), "link a->a: a device needs no link to itself"),
        ((PAIR, LINK, (("a", "b", LINK), ("a", "b", LINK)), ()), "link a->b is given 2 times"),
        ((PAIR, LINK, (), (medium("air"),)), "medium 'air' has no members"),
        ((PAIR, LINK, (), (medium("air", "a", "a"),)), "names a member twice: a, a"),
        ((PAIR, LINK, (), (medium("air", "x"),)), "no device 'x'"),
        ((PAIR, LINK, (), (medium("air", "a"), medium("sky", "a"))), "member of 2 media: 'air' and 'sky'"),
        ((PAIR, LINK, (), (medium("air", "a"), medium("air", "b"))), "2 media or uplinks are called 'air'"),
        ((PAIR, LINK, (), (medium("air", "a", latency_s=-1.0),)), "latency_s must be .* got -1"),
    ],
)
def test_what_is_wrong_is_named(parts: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_parts("home", *parts)
