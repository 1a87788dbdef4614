"""Strips: what arrays say of an operator is what its cuts say."""

from __future__ import annotations

from itertools import pairwise

import pytest

from edgeflow.cluster.cluster import Cluster
from edgeflow.cost import CostModel
from edgeflow.plan import Piece, Shard, Stage
from edgeflow.plan.stage_kernels import stage_kernels
from edgeflow.planner.analysis import analysis_of
from edgeflow.planner.estimates.strips import StripCosts
from edgeflow.sharding.region import Interval
from tests.unit.planner.graphs import graph

CLUSTER = Cluster.local([1.0, 0.3])


MODELS = ["tiny-resnet", "concat-dag", "unet", "tiny-vit", "tiny-bert", "openworld-tiny"]


def costs_of(name: str) -> StripCosts:
    analysis = analysis_of(graph(name))
    return StripCosts(analysis, CostModel(cluster=CLUSTER), analysis.labels)


@pytest.mark.parametrize("name", MODELS)
def test_what_strips_read_is_what_their_cuts_need(name: str) -> None:
    costs = costs_of(name)
    for op in costs.analysis.graph.operators:
        dim = costs.labels.get(op.first_output)
        if dim is None:
            continue
        strips, full = costs.of(op), costs.analysis.full(op.output)
        bounds = sorted({0, 1, strips.size // 3, strips.size // 2, strips.size - 1, strips.size})
        for start, stop in [*pairwise(bounds), (0, strips.size)]:
            needs = costs.analysis.cutter.cut(op, full.replace(dim, Interval(start, stop))).needs
            for item in strips.reads:
                found = Interval(int(item.first[start]), int(item.stop[stop - 1]))
                if item.tensor in needs:  # what is concatenated is not read by every strip
                    assert found == needs[item.tensor][costs.labels[item.tensor]], (op.name, start, stop)


@pytest.mark.parametrize("name", MODELS)
def test_seconds_of_a_power_of_two_and_of_the_whole_are_those_of_real_cuts(name: str) -> None:
    costs = costs_of(name)
    for op in costs.analysis.graph.operators:
        dim = costs.labels.get(op.first_output)
        strips, full = costs.of(op), costs.analysis.full(op.first_output)
        assert not strips.seconds[:, 0].any()
        if dim is None:
            continue
        for count in {1, 2, 4, strips.size} - {n for n in (2, 4) if n > strips.size}:
            start = (strips.size - count) // 2
            piece = Piece(full.replace(dim, Interval(start, start + count)))
            stage = Stage(name="", kind="", operators=(op.name,), shards=())
            (kernel,) = stage_kernels(costs.analysis.graph, stage, Shard(0, ((op.output, piece),))).kernels
            for rank in CLUSTER.ranks:
                assert strips.seconds[rank, count] == pytest.approx(costs.cost.kernel_s(rank, kernel))


def test_operators_of_one_form_share_their_strips_under_their_own_names() -> None:
    costs = costs_of("tiny-vit")
    pairs = [op for op in costs.analysis.graph.operators if "layer_norm" in op.target]
    first, second = costs.of(pairs[0]), costs.of(pairs[1])

    assert first.seconds is second.seconds
    assert (first.reads[0].tensor, second.reads[0].tensor) == (pairs[0].inputs[0], pairs[1].inputs[0])


def test_halos_are_seen() -> None:
    costs = costs_of("tiny-resnet")
    operators = costs.analysis.graph.operators

    assert costs.of(next(op for op in operators if ".conv" in op.target)).has_halo
    assert not costs.of(next(op for op in operators if "relu" in op.target)).has_halo
