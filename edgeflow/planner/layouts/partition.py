"""Which device gets which part of a tensor: intervals of a dim, or boxes of a grid, by shares."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate

from edgeflow.planner.analysis import Labels
from edgeflow.sharding.region import Interval, Region, split_interval

#: Tensor, its whole region -> device -> its part. Devices that get nothing are left out; None if the tensor
#: is not divided at all.
Partition = Callable[[str, Region], Mapping[int, Region] | None]


def apportioned(size: int, shares: Sequence[float]) -> tuple[Interval, ...]:
    """Cut ``[0, size)`` by largest remainders: each gets its share rounded down, the rest goes by remainder.

    Of equal remainders the last come first. Unlike `split_interval`, lengths depend on the shares alone and
    not on where an interval happens to lie.

    Examples:
        >>> [interval.length for interval in apportioned(14, [1.0, 1.0, 1.0, 1.0])]
        [3, 3, 4, 4]
    """
    total = float(sum(shares))
    quotas = [size * share / total for share in shares]
    # Absorb float error just below a whole number.
    lengths = [int(quota + 1e-9) for quota in quotas]
    order = sorted(range(len(shares)), key=lambda i: (-round(quotas[i] - lengths[i], 9), -i))
    for index in order[: size - sum(lengths)]:
        lengths[index] += 1
    stops = list(accumulate(lengths))
    return tuple(Interval(stop - length, stop) for stop, length in zip(stops, lengths, strict=True))


def rows_partition(labels: Labels, devices: Sequence[int], shares: Sequence[float]) -> Partition:
    """Return the partition that cuts every labelled tensor along its label."""

    def partition(tensor: str, full: Region) -> Mapping[int, Region] | None:
        dim = labels.get(tensor)
        if dim is None:
            return None
        intervals = split_interval(full[dim].length, shares)
        return along(full, dim, devices, intervals)

    return partition


def grid_partition(
    labels: Labels, across: Labels, devices: Sequence[int], shares: Sequence[float], bands: Sequence[int]
) -> Partition:
    """Return the partition that cuts tensors with both labels into bands, and each band along the second.

    A tensor with the first label only (tokens of a flattened map) is cut along that, in the same order.

    Args:
        bands: Numbers of devices, in order, that share a band; they add up to all devices.
    """
    stops = list(accumulate(bands))
    members = [range(stop - count, stop) for stop, count in zip(stops, bands, strict=True)]
    heights = [sum(shares[index] for index in band) for band in members]
    rows = rows_partition(labels, devices, shares)

    def partition(tensor: str, full: Region) -> Mapping[int, Region] | None:
        first, second = labels.get(tensor), across.get(tensor)
        if first is None or second is None or first == second:
            return rows(tensor, full)
        boxes: dict[int, Region] = {}
        for band, interval in zip(members, split_interval(full[first].length, heights), strict=True):
            if interval.length:
                inside = full.replace(first, interval)
                cuts = split_interval(full[second].length, [shares[index] for index in band])
                boxes |= along(inside, second, [devices[index] for index in band], cuts)
        return boxes

    return partition


def along(
    region: Region, dim: int, devices: Sequence[int], intervals: Sequence[Interval]
) -> dict[int, Region]:
    """Return the parts of ``region`` along ``dim``, without empty ones."""
    return {
        device: region.replace(dim, interval)
        for device, interval in zip(devices, intervals, strict=True)
        if interval.length
    }
