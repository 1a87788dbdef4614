"""Exchange or recompute: the search finds the least of all ways, and what it finds can be run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import product

import msgspec
import pytest
from torch import nn

from edgeflow.cluster.cluster import Cluster
from edgeflow.cost import CostModel
from edgeflow.graph.ir import ModelGraph
from edgeflow.plan import Decision, Plan, Weighed, verify_plan
from edgeflow.planner import plan
from edgeflow.planner.estimates.blocks import Block, Blocks
from edgeflow.planner.layouts.layout import close
from edgeflow.planner.strategies.fused import Path, blocks_of, least_path
from edgeflow.planner.task import Task
from tests.unit.plan.tiny import convs
from tests.unit.planner.graphs import captured, graph

GRID = [
    (name, speeds, bandwidth)
    for name in ("tiny-resnet", "concat-dag", "unet", "tiny-vit", "tiny-bert", "mlp")
    for speeds in ((0.1, 0.1), (0.1, 0.06, 0.02), (0.03,) * 5)
    for bandwidth in ("10 Mbit/s", "1 Gbit/s", "100 Gbit/s")
]


def task_of(model: ModelGraph, speeds: Sequence[float], bandwidth: str) -> Task:
    cluster = Cluster.local(speeds, bandwidth=bandwidth)
    return Task(graph=model, cluster=cluster, cost=CostModel(cluster=cluster))


@cache
def blocks_ending_at(blocks: Blocks, last: int) -> list[Block]:
    return list(blocks.ending_at(last))


def cost_of(blocks: Blocks, path: Path) -> float:
    """Seconds of one way, added up block by block."""
    total, before = 0.0, 0
    for first, last, team in path:
        block = blocks_ending_at(blocks, last)[last - first]
        total += float(blocks.exchange_s(block)[before, team] + block.seconds[team])
        before = team
    return total + float(blocks.answer_s()[before])


def ways(count: int, num_teams: int) -> Iterator[Path]:
    """Every division of the sections into blocks, with every team for each."""
    for cuts in product((False, True), repeat=count - 1):
        stops = [index for index, is_cut in enumerate(cuts) if is_cut] + [count - 1]
        starts = [0, *[stop + 1 for stop in stops[:-1]]]
        for teams in product(range(num_teams), repeat=len(stops)):
            yield list(zip(starts, stops, teams, strict=True))


def chain() -> ModelGraph:
    """Four places to exchange at, unequal layers, and a sum at the end."""
    layers = [
        nn.Conv2d(2, 8, 5, padding=2),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, stride=2, padding=1),
        nn.Conv2d(8, 4, 3, padding=1),
        nn.AdaptiveAvgPool2d(1),
    ]
    return captured(nn.Sequential(*layers), 1, 2, 24, 16)


@pytest.mark.parametrize("bandwidth", ["1 Mbit/s", "30 Mbit/s", "1 Gbit/s", "100 Gbit/s"])
@pytest.mark.parametrize("speeds", [(0.01, 0.01), (0.01, 0.004), (0.002, 0.001)])
def test_the_least_of_all_ways_is_found(speeds: tuple[float, ...], bandwidth: str) -> None:
    task = task_of(chain(), speeds, bandwidth)
    blocks = blocks_of(task, task.fastest)

    path, seconds = least_path(blocks)

    assert len(blocks.sections) == 4
    assert seconds == pytest.approx(cost_of(blocks, path), rel=1e-12)
    assert seconds == pytest.approx(
        min(cost_of(blocks, way) for way in ways(len(blocks.sections), len(blocks.teams))), rel=1e-12
    )


def test_the_answer_depends_on_the_network() -> None:
    """Halos are exchanged on a fast one, made again on one of long latency; on a slow one nobody helps."""
    blocks = {}
    for latency, bandwidth in (("0 ms", "100 Gbit/s"), ("3 ms", "100 Gbit/s"), ("3 ms", "10 kbit/s")):
        cluster = Cluster.local([0.002, 0.002], bandwidth=bandwidth, latency=latency)
        cost = CostModel(cluster=cluster, message_overhead_s=0.0)
        found = blocks_of(Task(graph=convs(3, 3, 3, 3, height=64), cluster=cluster, cost=cost), (0, 1))
        path, _ = least_path(found)
        blocks[latency, bandwidth] = [len(found.teams[team].devices) for *_, team in path]

    assert blocks["0 ms", "100 Gbit/s"] == [2, 2, 2, 2]
    assert set(blocks["3 ms", "10 kbit/s"]) == {1}


@pytest.mark.parametrize(("name", "speeds", "bandwidth"), GRID)
def test_it_is_no_worse_than_exchanging_everywhere_or_nowhere(
    name: str, speeds: tuple[float, ...], bandwidth: str
) -> None:
    task = task_of(graph(name), speeds, bandwidth)
    blocks = blocks_of(task, task.fastest)
    count, everyone = len(blocks.sections), len(blocks.teams) - 1

    _, seconds = least_path(blocks)

    assert len(blocks.teams[everyone].devices) == (len(speeds) if task.analysis.labels else 1)
    everywhere = cost_of(blocks, [(index, index, everyone) for index in range(count)])
    nowhere = cost_of(blocks, [(0, count - 1, everyone)])
    assert seconds <= min(everywhere, nowhere) * (1 + 1e-12)


@pytest.mark.parametrize("name", ["tiny-resnet", "concat-dag", "unet", "tiny-vit", "tiny-bert", "mlp"])
@pytest.mark.parametrize("kind", ["everywhere", "nowhere", "in twos"])
def test_any_division_is_a_plan(name: str, kind: str) -> None:
    task = task_of(graph(name), (1.0, 0.6, 0.3), "1 Gbit/s")
    blocks = blocks_of(task, task.fastest)
    count, team = len(blocks.sections), len(blocks.teams) - 1
    size = {"everywhere": 1, "nowhere": count, "in twos": 2}[kind]
    path = [(first, min(first + size, count) - 1, team) for first in range(0, count, size)]

    stages = close(task.analysis, blocks.drafts(path))

    assert len(stages) == len(path)
    verify_plan(
        Plan(Decision(graph=task.graph, cluster=task.cluster, stages=stages), Weighed(strategy="test"))
    )


def test_recomputed_rows_are_counted() -> None:
    """Two equal devices, three 3x3 convolutions of 8 rows: 4 + 5 + 6 rows each when halos are made again."""
    task = task_of(convs(3, 3, 3), (1.0, 1.0), "1 Gbit/s")
    blocks = blocks_of(task, (0, 1))
    together = len(blocks.teams) - 1

    (*_, whole) = blocks.ending_at(2)
    seconds = blocks.costs.of(task.graph.operators[0]).seconds[0]

    assert isinstance(whole, Block)
    assert whole.seconds[together] == pytest.approx(seconds[4] + seconds[5] + seconds[6])
    starts, stops = whole.needs["input"]
    assert [(int(starts[together, rank]), int(stops[together, rank])) for rank in (0, 1)] == [(0, 7), (1, 8)]


def test_a_device_without_the_memory_is_left_out() -> None:
    cluster = Cluster.local([0.02, 0.02, 0.02], bandwidth="10 Gbit/s")
    small = msgspec.structs.replace(cluster.devices[1], memory_bytes=50_000)
    cluster = msgspec.structs.replace(cluster, devices=(cluster.devices[0], small, cluster.devices[2]))

    made = plan(graph("tiny-resnet"), cluster, strategy="fused")

    assert made.devices == (0, 2)
    assert any("'device1' needs" in item.reason for item in made.candidates)
