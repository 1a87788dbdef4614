"""What runs of stretches hold."""

from __future__ import annotations

import pytest
from torch import nn

from edgeflow.planner.analysis import analysis_of
from tests.unit.planner.graphs import captured, graph


def test_a_weight_counts_once_in_a_run_and_again_in_the_next() -> None:
    shared = nn.Conv2d(4, 4, 3, padding=1, bias=False)
    found = analysis_of(captured(nn.Sequential(shared, nn.Tanh(), nn.Conv2d(4, 4, 1), shared), 1, 4, 8, 8))
    assert len(found.stretches) > 1

    once, rest = 4 * 4 * 4 * 3 * 3, 4 * (4 * 4 + 4)
    assert found.weight_bytes()[-1] == once + rest
    assert found.weight_bytes()[:2] == [0, once]
    assert found.weight_bytes(len(found.stretches) - 1)[-1] >= once
    assert found.weight_bytes(len(found.stretches)) == [0]


def test_a_run_holds_what_its_operators_read() -> None:
    found = analysis_of(graph("tiny-vit"))
    count = len(found.stretches)

    for start in range(count):
        for stop in range(start, count + 1):
            read = {name for op in found.operators_of(start, stop) for name in op.inputs}
            held = sum(found.graph.specs[name].num_bytes for name in read & found.graph.weights.keys())
            assert found.weight_bytes(start)[stop - start] == held
    assert found.operators_of(0, count) == found.graph.operators


@pytest.mark.parametrize("name", ["tiny-vit", "tiny-resnet", "tiny-bert", "openworld-tiny", "unet", "mlp"])
def test_stretches_are_the_graph_in_order_and_tear_no_group(name: str) -> None:
    found = analysis_of(graph(name))

    assert [op for stretch in found.stretches for op in stretch] == list(found.graph.operators)
    where = {op.name: index for index, stretch in enumerate(found.stretches) for op in stretch}
    for group in found.groups:
        assert len({where[operator] for operator in group.operators}) == 1
