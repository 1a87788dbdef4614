"""Strips: what arrays say of an operator is what its cuts say."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from edgeflow.cluster.cluster import Cluster, Device, Link
from edgeflow.cluster.network import Segment
from edgeflow.cost import CostModel
from edgeflow.plan import Piece, Shard, Stage
from edgeflow.plan.stage_kernels import stage_kernels
from edgeflow.planner.analysis import analysis_of
from edgeflow.planner.estimates.strips import StripCosts
from edgeflow.planner.estimates.wires import Wires
from edgeflow.planner.search.space import linked_devices
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


# Wires


def network(*, link: float = 1e6, latency_s: float = 0.01, **options: object) -> Wires:
    devices = tuple(Device(name=n, flops_per_second=1e9, memory_bytes=1 << 30) for n in "abc")
    cluster = Cluster(
        devices=devices,
        network=Link(bandwidth_bytes_per_s=link, latency_s=latency_s),
        **options,  # type: ignore[arg-type]
    )
    return Wires(CostModel(cluster=cluster, message_overhead_s=0.001))


def transfers(**num_bytes: float) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """``ab=5``: 5 bytes from a to b; x is the client, on the host of a."""
    frames = np.zeros((4, 4))
    for pair, value in num_bytes.items():
        frames["abcx".index(pair[0]), "abcx".index(pair[1])] = value
    return frames


@pytest.mark.parametrize(
    ("num_bytes", "seconds"),
    [
        ({}, 0.0),
        ({"ab": 1000.0}, 0.001 + 0.01 + 0.001),
        ({"ab": 1000.0, "ac": 1000.0}, 0.002 + 0.01 + 0.002),  # both leave a
        ({"ab": 1000.0, "cb": 1000.0}, 0.002 + 0.01 + 0.002),  # both enter b
        ({"ab": 1000.0, "bc": 1000.0}, 0.001 + 0.01 + 0.002),  # b takes in and sends at once
        ({"xb": 1000.0}, 0.001 + 0.01 + 0.001),
    ],
)
def test_transfers_take_turns_at_interfaces(num_bytes: dict[str, float], seconds: float) -> None:
    assert float(network().seconds(transfers(**num_bytes))) == pytest.approx(seconds)


def test_transfers_take_turns_on_a_shared_medium() -> None:
    air = Segment(name="air", kind="medium", members=("a", "b", "c"), bandwidth_bytes_per_s=1e6)
    shared = network(segments=(air,))

    both = float(shared.seconds(transfers(ab=1000.0, bc=1000.0)))

    assert both == pytest.approx(0.002 + 0.01 + 0.002)


def test_devices_that_cannot_reach_each_other_are_not_chosen_together() -> None:
    devices = tuple(Device(name=n, flops_per_second=1e9, memory_bytes=1 << 30) for n in "abc")
    cluster = Cluster(
        devices=devices,
        network=Link(bandwidth_bytes_per_s=1e6, latency_s=0.0),
        links=(("b", "c", None),),
    )
    cost = CostModel(cluster=cluster)

    assert linked_devices(cost, (0, 1, 2)) == (0, 1)
    assert linked_devices(cost, (2, 1, 0)) == (2, 0)
