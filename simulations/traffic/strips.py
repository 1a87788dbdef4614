"""Traffic and repeated work of VGG-16 in equal strips, for each published pattern.

Four ways to cut the convolutions of VGG-16 (images of 224x224, float32, N equal devices): gathered and
scattered around every convolution, as MoDNN does; halos exchanged between neighbours, as CoEdge does; fused
between pools, gathered and scattered around each block, as EdgeLD does; one fused block, as in DeepThings, in
strips. Bytes between hosts and FLOPs of kernels are counted in the plans' own programs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache
from types import MappingProxyType
from typing import Final

import torch
from torch import nn

import edgeflow as ef
from edgeflow.graph.ir import ModelGraph, Operator
from edgeflow.plan import Decision, Plan, Weighed
from edgeflow.plan.program import CLIENT, Send
from edgeflow.planner.analysis import Analysis, analysis_of
from edgeflow.planner.layouts.hub import gathered
from edgeflow.planner.layouts.layout import Draft, close
from edgeflow.planner.layouts.partition import Partition, along, apportioned, rows_partition
from edgeflow.planner.layouts.rows import drafts_of_rows, owned_rows
from edgeflow.sharding.region import Region
from edgeflow.testing import models
from simulations.counting import flops_of

#: Pattern -> devices -> 1e6 bytes, and the share of work that is repeated: from the sizes of layers alone,
#: worked out apart from this code.
TABLE: Final[Mapping[str, Mapping[int, tuple[float, float]]]] = MappingProxyType(
    {
        "gathered around every convolution": {2: (45.8, 0), 4: (70.6, 0), 6: (80.7, 0), 8: (86.2, 0)},
        "halos between neighbours": {2: (1.38, 0), 4: (3.62, 0), 6: (5.75, 0), 8: (7.84, 0)},
        # With 8 devices it counts halos of the strip of 7 rows that is empty: 27.3 % where there are 26.6.
        "fused between pools": {2: (6.7, 0.040), 4: (11.2, 0.120), 6: (13.6, 0.199), 8: (15.3, 0.273)},
        "one fused block": {2: (0.64, 0.60), 4: (1.59, 1.58), 6: (2.48, 2.73), 8: (3.15, 3.17)},
    }
)


@cache
def vgg() -> ModelGraph:
    """The convolutions and pools of VGG-16."""
    layers = [layer for layer in models.vgg16(hidden=1) if not isinstance(layer, nn.Flatten | nn.Linear)]
    last_pool = max(index for index, layer in enumerate(layers) if isinstance(layer, nn.MaxPool2d))
    return ef.capture(nn.Sequential(*layers[: last_pool + 1]), (torch.zeros(1, 3, 224, 224),))


def around_every_convolution(count: int) -> Plan:
    """What the strategy itself plans."""
    return ef.plan(vgg(), ef.Cluster.local([1.0] * count), strategy="modnn")


def halos(count: int) -> Plan:
    """Convolutions with their pools, synchronised in between; that is, 12 times."""
    graph, analysis = vgg(), analysis_of(vgg())
    pools = [name for op in graph.operators if "pool" in op.target for name in op.outputs]
    partition = rows_partition(analysis.labels, range(count), [1.0] * count)
    return _plan(graph, _strips(analysis, graph.operators, partition, count, recomputed=pools), count)


def fused_between_pools(count: int) -> Plan:
    graph, drafts = vgg(), []
    for block in _blocks(graph):
        made = [name for op in block for name in op.used_outputs]
        drafts += _strips(analysis_of(graph), block, _by_remainders(count), count, recomputed=made)
        drafts.append(gathered(analysis_of(graph), made[-1], 0))
    return _plan(graph, drafts, count)


def one_fused_block(count: int) -> Plan:
    graph = vgg()
    made = [name for op in graph.operators for name in op.used_outputs]
    drafts = _strips(analysis_of(graph), graph.operators, _by_remainders(count), count, recomputed=made)
    return _plan(graph, drafts, count)


#: Pattern -> the plan for some number of devices.
PATTERNS: Final[Mapping[str, Callable[[int], Plan]]] = MappingProxyType(
    {
        "gathered around every convolution": around_every_convolution,
        "halos between neighbours": halos,
        "fused between pools": fused_between_pools,
        "one fused block": one_fused_block,
    }
)


def sent_bytes(plan: Plan) -> Counter[str]:
    """Tensor -> bytes of it that travel between hosts; the client is on the first device's."""
    sent: Counter[str] = Counter()
    for rank, program in plan.programs.items():
        for item in program.instructions:
            if isinstance(item, Send) and {rank, item.peer} != {CLIENT, 0}:
                sent[item.tensor] += item.num_bytes
    return sent


def repeated(plan: Plan) -> float:
    """The convolutions' FLOPs beyond those of one device, as a share of these."""
    convolutions = {op.name for op in plan.graph.operators if "conv" in op.target}
    done = flops_of(plan, convolutions).total()
    return done / sum(analysis_of(plan.graph).flops[name] for name in convolutions) - 1


def _strips(
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


def _by_remainders(count: int) -> Partition:
    """Equal strips; the first device, which gathers, is not the one to get rows that do not divide."""

    def partition(tensor: str, full: Region) -> Mapping[int, Region]:
        return along(full, 2, range(count), apportioned(full[2].length, [1.0] * count))

    return partition


def _plan(graph: ModelGraph, drafts: Sequence[Draft], count: int) -> Plan:
    cluster = ef.Cluster.local([1.0] * count)
    stages = close(analysis_of(graph), drafts)
    return Plan(Decision(graph=graph, cluster=cluster, stages=stages), Weighed(strategy="strips"))


def _blocks(graph: ModelGraph) -> list[list[Operator]]:
    """Operators up to each pool."""
    found: list[list[Operator]] = [[]]
    for op in graph.operators:
        found[-1].append(op)
        if "pool" in op.target:
            found.append([])
    return found[:-1]
