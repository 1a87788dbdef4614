"""The layouts that a search may choose from: kinds, devices and shares."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Final

from edgeflow.cost.model import CostModel
from edgeflow.plan.program import CLIENT
from edgeflow.planner.layouts.layout import Layout
from edgeflow.planner.task import Task

#: With as many devices, every subset is tried; with more, the fastest two, three, ...
_MAX_ALL_SUBSETS: Final = 3
_MAX_SINGLES: Final = 8
_SIZES: Final = (2, 3, 4, 6, 8, 16, 32, 64, 128)
#: With more devices than this, one order of them and every second size is enough of a choice.
_MANY: Final = 16
#: Adding partial sums of more devices takes longer than it saves: messages grow with the square.
_MAX_TENSOR: Final = 16
#: Size of a typical partial sum, used to compare devices as hubs.
_HUB_BYTES: Final = 1 << 16
_REDUCES: Final = ("direct", "scatter", "star")


def subsets(task: Task) -> list[tuple[int, ...]]:
    """Sets of at least two devices, each in rank order.

    All of them if devices are few; else the fastest ones, in growing sizes, by speed alone and by speed with
    the transfer from the source counted in.
    """
    ranks = task.cluster.ranks
    if len(ranks) <= _MAX_ALL_SUBSETS:
        return [subset for size in range(2, len(ranks) + 1) for subset in combinations(ranks, size)]
    is_large = len(ranks) > _MANY
    sizes = [size for size in _SIZES if size < len(ranks) and not (is_large and size in (3, 6))]
    orders = (nearest(task),) if is_large else (task.fastest, nearest(task))
    found = (tuple(sorted(order[:size])) for size in (*sizes, len(ranks)) for order in orders)
    return list(dict.fromkeys(found))


def nearest(task: Task) -> tuple[int, ...]:
    """Return ranks by when they would be done with the whole graph, with inputs and answers moved."""
    graph, cluster = task.graph, task.cluster
    num_bytes = sum(graph.specs[name].num_bytes for name in (*graph.inputs, *graph.outputs))

    def done_s(rank: int) -> float:
        return task.alone_s[rank] + cluster.distance_s(cluster.source_rank, rank, num_bytes)

    return tuple(sorted(cluster.ranks, key=lambda rank: (done_s(rank), rank)))


def linked_devices(cost: CostModel, order: Sequence[int]) -> tuple[int, ...]:
    """Return devices that all reach each other and the client, greedily in the given order.

    The device on the client's host always does reach the client, so there is at least one.
    """
    cluster = cost.cluster
    chosen: list[int] = []
    for rank in order:
        others = [CLIENT, *chosen]
        if all(cluster.is_connected(rank, b) and cluster.is_connected(b, rank) for b in others):
            chosen.append(rank)
    return tuple(chosen)


def shares_of(task: Task, devices: Sequence[int]) -> tuple[float, ...]:
    """Shares in proportion to how fast the devices are at this graph."""
    return tuple(task.speeds[rank] for rank in devices)


def singles(task: Task) -> list[Layout]:
    """One device each: the fastest and the nearest ones."""
    ranks = dict.fromkeys((*task.fastest[:_MAX_SINGLES], *nearest(task)[:2]))
    return [Layout(kind="single", devices=(rank,)) for rank in ranks]


def splits(task: Task, devices: tuple[int, ...], shares: tuple[float, ...]) -> Iterator[Layout]:
    """Every kind of split on these devices with these shares.

    Rows are cut along the dims of the inputs that split the most of the graph; grids, where four devices or
    more have two such dims.
    """
    count = min(2, len(task.analysis.labellings))
    for labelling in range(count):
        if labelling and _are_alike(task):
            continue
        for exchange in (True, False):
            yield Layout(kind="rows", devices=devices, shares=shares, exchange=exchange, labelling=labelling)
    if count == 2 and len(devices) >= 4:
        bands = _bands(len(devices))
        for exchange in (True, False):
            yield Layout(
                kind="rows", devices=devices, shares=shares, exchange=exchange, across=1, bands=bands
            )
    if len(devices) > _MAX_TENSOR:
        return
    for reduce in _REDUCES if task.analysis.groups else _REDUCES[:1]:
        hub_first = devices if reduce != "star" else _hub_first(task, devices)
        yield Layout(
            kind="tensor",
            devices=hub_first,
            shares=tuple(shares[devices.index(rank)] for rank in hub_first),
            reduce=reduce,
        )


def _are_alike(task: Task) -> bool:
    """Whether the first two dims that can be cut are as long as each other, as those of a square image are.

    Then one is as good as the other, and the first lies in one piece in memory.
    """
    graph = task.graph
    lengths = [
        {graph.specs[name].shape[dim] for name, dim in labels.items() if name in graph.inputs}
        for labels in task.analysis.labellings[:2]
    ]
    return lengths[0] == lengths[1]


def _bands(count: int) -> tuple[int, ...]:
    """As square a grid as can be: numbers of devices in each band."""
    rows = max(2, int(count**0.5))
    return tuple(count // rows + (index < count % rows) for index in range(rows))


def _hub_first(task: Task, devices: tuple[int, ...]) -> tuple[int, ...]:
    """The best connected device first; of equals, the fastest."""
    cluster = task.cluster

    def total_s(hub: int) -> float:
        ways = [(hub, other) for other in devices if other != hub]
        ways += [(other, hub) for other in devices if other != hub]
        return sum(cluster.distance_s(a, b, _HUB_BYTES) for a, b in ways)

    hub = min(devices, key=lambda rank: (total_s(rank), -task.speeds[rank], rank))
    return (hub, *(rank for rank in devices if rank != hub))
