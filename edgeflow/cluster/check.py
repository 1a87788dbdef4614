"""What every cluster must satisfy, with the number that does not."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from edgeflow.errors import ConfigError

if TYPE_CHECKING:
    from edgeflow.cluster.cluster import Cluster
    from edgeflow.cluster.device import Device
    from edgeflow.cluster.network import Link, Segment


def check_cluster(cluster: Cluster) -> None:
    """Check a cluster.

    Raises:
        ConfigError: If it has no devices, two of one name, or two links of one pair; a quantity is not
            positive or not finite; a link, a segment or the source names a device that is not there; a device
            is in two media or two uplinks; or devices cannot be reached from the source.
    """
    if not cluster.devices:
        raise ConfigError(f"cluster {cluster.name!r} has no devices")
    names = [device.name for device in cluster.devices]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"cluster {cluster.name!r}: {names.count(name)} devices are called {name!r}")
    for device in cluster.devices:
        _check_device(device)
    if cluster.network is not None:
        _check_link(cluster.network, "network")
    _check_links(cluster)
    _check_segments(cluster)
    if cluster.source:
        cluster.rank_of(cluster.source)
    _check_reach(cluster)


def _check_device(device: Device) -> None:
    what = f"device {device.name!r}"
    for key in ("flops_per_second", "memory_bytes", "memory_bandwidth_bytes_per_s"):
        _positive(getattr(device, key), f"{what}: {key}")
    for key in ("upload_bytes_per_s", "download_bytes_per_s"):
        if getattr(device, key) is not None:
            _positive(getattr(device, key), f"{what}: {key}")
    for key in (
        "overhead_s",
        "power_idle_w",
        "power_compute_w",
        "joules_per_flop",
        "joules_per_byte_sent",
        "joules_per_byte_received",
    ):
        _not_negative(getattr(device, key), f"{what}: {key}")


def _check_link(link: Link, what: str) -> None:
    _positive(link.bandwidth_bytes_per_s, f"{what}: bandwidth_bytes_per_s")
    _not_negative(link.latency_s, f"{what}: latency_s")


def _check_links(cluster: Cluster) -> None:
    seen = set()
    for a, b, link in cluster.links:
        cluster.rank_of(a)
        cluster.rank_of(b)
        if a == b:
            raise ConfigError(f"link {a}->{b}: a device needs no link to itself")
        if (a, b) in seen:
            count = sum((x, y) == (a, b) for x, y, _ in cluster.links)
            raise ConfigError(f"link {a}->{b} is given {count} times")
        seen.add((a, b))
        if link is not None:
            _check_link(link, f"link {a}->{b}")


def _check_segments(cluster: Cluster) -> None:
    names = [segment.name for segment in cluster.segments]
    home: dict[tuple[str, str], Segment] = {}
    for segment in cluster.segments:
        what = f"{segment.kind} {segment.name!r}"
        if names.count(segment.name) > 1:
            raise ConfigError(f"{names.count(segment.name)} media or uplinks are called {segment.name!r}")
        if not segment.members:
            raise ConfigError(f"{what} has no members")
        _positive(segment.bandwidth_bytes_per_s, f"{what}: bandwidth_bytes_per_s")
        _not_negative(segment.latency_s, f"{what}: latency_s")
        for member in segment.members:
            cluster.rank_of(member)
            other = home.setdefault((segment.kind, member), segment)
            if other != segment:
                raise ConfigError(
                    f"device {member!r} is a member of 2 {_plural(segment.kind)}: "
                    f"{other.name!r} and {segment.name!r}"
                )
        if len(set(segment.members)) != len(segment.members):
            raise ConfigError(f"{what} names a member twice: {', '.join(segment.members)}")


def _plural(kind: str) -> str:
    return "media" if kind == "medium" else "uplinks"


def _check_reach(cluster: Cluster) -> None:
    """Whatever takes part in a request must be reached from the source, over other devices if need be."""
    for there, what in ((True, "reached from"), (False, "heard by")):
        reached = {cluster.source_rank}
        frontier = [cluster.source_rank]
        while frontier:
            here = frontier.pop()
            for rank in cluster.ranks:
                pair = (here, rank) if there else (rank, here)
                if rank not in reached and cluster.is_connected(*pair):
                    reached.add(rank)
                    frontier.append(rank)
        lost = [cluster.devices[rank].name for rank in cluster.ranks if rank not in reached]
        if lost:
            source = cluster.devices[cluster.source_rank].name
            raise ConfigError(
                f"{len(lost)} of {len(cluster.devices)} devices cannot be {what} the source {source!r} "
                f"over any links: {', '.join(lost)}"
            )


def _positive(value: float, what: str) -> None:
    if not (value > 0 and math.isfinite(value)):
        raise ConfigError(f"{what} must be positive and finite, got {value:g}")


def _not_negative(value: float, what: str) -> None:
    if not (value >= 0 and math.isfinite(value)):
        raise ConfigError(f"{what} must be finite and not negative, got {value:g}")
