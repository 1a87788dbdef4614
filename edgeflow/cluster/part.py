"""A cluster without some of its devices, or without some of its links."""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from edgeflow.cluster.cluster import Cluster, Link


def part_of(cluster: Cluster, present: Collection[str], *, cut: Collection[tuple[str, str]] = ()) -> Cluster:
    """Return the part of a cluster that consists of the devices named, in the order of the whole.

    If the source device is not among them, the first remaining device becomes the source.

    Args:
        cut: Pairs that cannot reach each other, in either direction.

    Raises:
        ConfigError: If no device is left, or one cannot be reached from the source any more.
    """
    if all(device.name in present for device in cluster.devices) and not cut:
        return cluster
    devices = tuple(device for device in cluster.devices if device.name in present)
    segments = [
        msgspec.structs.replace(segment, members=tuple(name for name in segment.members if name in present))
        for segment in cluster.segments
    ]
    links: dict[tuple[str, str], Link | None] = {
        (a, b): link for a, b, link in cluster.links if a in present and b in present
    }
    for a, b in cut:
        if a in present and b in present:
            links[a, b] = links[b, a] = None
    source = cluster.devices[cluster.source_rank].name
    return Cluster(
        name=cluster.name,
        devices=devices,
        network=cluster.network,
        links=tuple((a, b, link) for (a, b), link in links.items()),
        segments=tuple(segment for segment in segments if segment.members),
        source=source if source in present or not devices else devices[0].name,
    )
