"""Which ranks supply the parts of a region: the rank itself first, then the nearest owners."""

from __future__ import annotations

from typing import NamedTuple

from edgeflow.cluster.cluster import Cluster
from edgeflow.sharding.region import Region, without


class Owner(NamedTuple):
    """A rank that owns a region of a tensor; ``is_claimed``: or another one that has claimed its task."""

    rank: int
    region: Region
    is_claimed: bool


class Sources(NamedTuple):
    """The parts that cover a region.

    Attributes:
        here: (index among the regions that the rank holds, part).
        there: (index among the owners, parts).
        missing: Parts that nobody has.
    """

    here: list[tuple[int, Region]]
    there: list[tuple[int, list[Region]]]
    missing: tuple[Region, ...]


def find_sources(
    cluster: Cluster,
    rank: int,
    region: Region,
    num_bytes: int,
    here: tuple[Region, ...],
    owners: tuple[Owner, ...],
) -> Sources:
    """Cover ``region`` on ``rank``.

    Args:
        num_bytes: Size of the whole tensor, by which distances are compared.
        here: Regions of the tensor that the rank holds.
        owners: Ranks that own regions of it.
    """
    from_here, from_there = [], []
    rest: tuple[Region, ...] = (region,)
    for index, held in enumerate(here):
        overlaps = _overlaps(rest, held)
        if overlaps:
            from_here += [(index, overlap) for overlap in overlaps]
            rest = without(rest, held)
    asked = [
        index
        for index, owner in enumerate(owners)
        if (owner.rank != rank or owner.is_claimed) and any(box.overlap(owner.region) for box in rest)
    ]

    def distance(index: int) -> tuple[float, int]:
        owner = owners[index].rank
        # Among equally near owners, take the next one after this rank, so that load spreads.
        after = (owner - rank) % (len(cluster.devices) + 1)
        return cluster.distance_s(owner, rank, num_bytes), after

    for index in sorted(asked, key=distance):
        owned = owners[index].region
        overlaps = _overlaps(rest, owned)
        if overlaps:
            from_there.append((index, overlaps))
            rest = without(rest, owned)
    return Sources(from_here, from_there, rest)


def _overlaps(boxes: tuple[Region, ...], region: Region) -> list[Region]:
    """Return the intersection of each box with ``region``, where there is one."""
    return [box.intersect(region) for box in boxes if box.overlap(region)]
