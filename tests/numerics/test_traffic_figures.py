"""Traffic and repeated work of VGG-16 in equal strips, in each pattern of the literature.

A published comparison of four ways to cut the convolutions of VGG-16 (images of 224x224, float32, N equal
devices): (a) gathered and scattered around every convolution, as MoDNN does; (b) halos exchanged between
neighbours, as CoEdge does; (c) fused between pools, gathered and scattered around each block, as EdgeLD does;
(d) one fused block, as in DeepThings, in strips. What is compared with it is counted in the plans' own
programs: bytes between devices, FLOPs of kernels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from functools import cache

import pytest
import torch
from torch import nn

import edgeflow as ef
from edgeflow.graph.ir import ModelGraph, Operator
from edgeflow.plan import Plan
from edgeflow.plan.program import CLIENT, Compute, Send
from edgeflow.planner.analysis import Analysis, analysis_of
from edgeflow.planner.hub import gathered
from edgeflow.planner.layout import Draft, close, outputs_of
from edgeflow.planner.partition import Partition, along, apportioned, rows_partition
from edgeflow.planner.rows import drafts_of_rows, owned_rows
from edgeflow.sharding.region import Region
from edgeflow.testing import models


@cache
def vgg() -> ModelGraph:
    """The convolutions and pools of VGG-16."""
    layers = [layer for layer in models.vgg16(hidden=1) if not isinstance(layer, nn.Flatten | nn.Linear)]
    last_pool = max(index for index, layer in enumerate(layers) if isinstance(layer, nn.MaxPool2d))
    return ef.capture(nn.Sequential(*layers[: last_pool + 1]), (torch.zeros(1, 3, 224, 224),))


def megabytes(plan: Plan) -> Counter[str]:
    """Tensor -> 1e6 bytes of it that travel between hosts; the client is on the first device's."""
    sent: Counter[str] = Counter()
    for rank, program in plan.programs.items():
        for item in program.instructions:
            if isinstance(item, Send) and {rank, item.peer} != {CLIENT, 0}:
                sent[item.tensor] += item.num_bytes / 1e6
    return sent


def repeated(plan: Plan) -> float:
    """The convolutions' FLOPs beyond those of one device, as a share of these."""
    convolutions = [op.name for op in plan.graph.operators if "conv" in op.target]
    done = sum(
        kernel.flops
        for program in plan.programs.values()
        for item in program.instructions
        if isinstance(item, Compute)
        for kernel in item.kernels
        if kernel.operator in convolutions
    )
    return done / sum(analysis_of(plan.graph).flops[name] for name in convolutions) - 1


def strips(
    analysis: Analysis,
    operators: Sequence[Operator],
    partition: Partition,
    count: int,
    *,
    recomputed: Collection[str],
) -> list[Draft]:
    """Strips of rows, as a strategy would have them built."""
    owned = owned_rows(analysis, operators, analysis.labels, partition, range(count), rest=0)
    return drafts_of_rows(analysis, operators, owned, recomputed=recomputed)


def by_remainders(count: int) -> Partition:
    """Equal strips; the first device, which gathers, is not the one to get rows that do not divide."""

    def partition(tensor: str, full: Region) -> Mapping[int, Region]:
        return along(full, 2, range(count), apportioned(full[2].length, [1.0] * count))

    return partition


def plan_of(graph: ModelGraph, drafts: Sequence[Draft], count: int) -> Plan:
    cluster = ef.Cluster.local([1.0] * count)
    stages = close(analysis_of(graph), drafts)
    return Plan(graph=graph, cluster=cluster, stages=stages, strategy="strips")


def blocks(graph: ModelGraph) -> list[list[Operator]]:
    """Operators up to each pool."""
    found: list[list[Operator]] = [[]]
    for op in graph.operators:
        found[-1].append(op)
        if "pool" in op.target:
            found.append([])
    return found[:-1]


@pytest.mark.parametrize(("count", "expected"), [(2, 45.8), (4, 70.6), (6, 80.7), (8, 86.2)])
def test_gathered_and_scattered_around_every_convolution(count: int, expected: float) -> None:
    """What the strategy itself plans."""
    plan = ef.plan(vgg(), ef.Cluster.local([1.0] * count), strategy="modnn")

    assert round(sum(megabytes(plan).values()), 1) == expected
    assert repeated(plan) == 0


@pytest.mark.parametrize(("count", "expected"), [(2, 1.38), (4, 3.62), (6, 5.75), (8, 7.84)])
def test_halos_between_neighbours(count: int, expected: float) -> None:
    """Convolutions with their pools, synchronised in between; that is, 12 times.

    Both ends are counted as the table has them: the image without halos, and 1/N of 7 rows for a strip.
    """
    graph, analysis = vgg(), analysis_of(vgg())
    pools = [name for op in graph.operators if "pool" in op.target for name in op.outputs]
    partition = rows_partition(analysis.labels, range(count), [1.0] * count)
    plan = plan_of(graph, strips(analysis, graph.operators, partition, count, recomputed=pools), count)

    sent = megabytes(plan)
    ends = (*graph.inputs, *graph.outputs)
    halos = sum(size for tensor, size in sent.items() if tensor not in ends)
    ideal = sum(graph.specs[name].num_bytes / 1e6 * (1 - 1 / count) for name in ends)

    assert len(plan.stages) == 13
    assert round(halos + ideal, 2) == expected
    assert sum(sent.values()) == pytest.approx(halos + ideal, rel=0.01)
    assert repeated(plan) == 0


@pytest.mark.parametrize(
    ("count", "expected", "work"), [(2, 6.7, 0.040), (4, 11.2, 0.120), (6, 13.6, 0.199), (8, 15.3, 0.266)]
)
def test_fused_between_pools(count: int, expected: float, work: float) -> None:
    """With 8 devices the table has 27.3 % more work: it counts halos of the strip of 7 rows that is empty."""
    graph, drafts = vgg(), []
    for block in blocks(graph):
        made = [name for op in block for name in outputs_of(op)]
        drafts += strips(analysis_of(graph), block, by_remainders(count), count, recomputed=made)
        drafts.append(gathered(analysis_of(graph), made[-1], 0))
    plan = plan_of(graph, drafts, count)

    assert len(plan.stages) == 2 * 5
    assert round(sum(megabytes(plan).values()), 1) == expected
    assert round(repeated(plan), 3) == work


@pytest.mark.parametrize(
    ("count", "expected", "work"), [(2, 0.64, 0.60), (4, 1.59, 1.58), (6, 2.48, 2.73), (8, 3.15, 3.17)]
)
def test_one_fused_block(count: int, expected: float, work: float) -> None:
    graph = vgg()
    made = [name for op in graph.operators for name in outputs_of(op)]
    whole = strips(analysis_of(graph), graph.operators, by_remainders(count), count, recomputed=made)
    plan = plan_of(graph, whole, count)

    assert len(plan.stages) == 1
    assert round(sum(megabytes(plan).values()), 2) == expected
    assert round(repeated(plan), 2) == work
