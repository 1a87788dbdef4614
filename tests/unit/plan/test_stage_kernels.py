"""Needs propagated backwards through a stage: regions, weights, FLOPs and peaks by hand."""

from __future__ import annotations

import pytest

from edgeflow.errors import InvalidPlanError
from edgeflow.plan import Piece, Shard
from edgeflow.plan.stage_kernels import StageKernels, stage_kernels
from edgeflow.sharding.region import Interval, Region
from tests.unit.plan.tiny import convs, mlp, stage, summed


def rows(start: int, stop: int) -> Piece:
    return Piece(Region.of([(0, 1), (0, 1), (start, stop), (0, 4)]))


def of_convs(*operators: str, **pieces: Piece) -> StageKernels:
    shard = Shard(0, tuple(pieces.items()))
    return stage_kernels(convs(3, 3), stage("s", operators, {}), shard)


def test_halos_grow_backwards_through_convolutions() -> None:
    work = of_convs("conv2d", "conv2d_1", conv2d_1=rows(0, 2))

    assert [kernel.operator for kernel in work.kernels] == ["conv2d", "conv2d_1"]
    assert work.needs == (("input", rows(0, 4).region),)
    assert dict(work.kernels[0].outputs) == {"conv2d": rows(0, 3).region}
    assert work.outputs == (("conv2d_1", rows(0, 2).region),)
    # 9 multiplications, as many additions, and the bias: 18 per value, of 12 and 8 values.
    assert work.flops == sum(kernel.flops for kernel in work.kernels) == 18 * (12 + 8)
    assert work.peak_bytes == 4 * (12 + 8)


def test_an_operator_that_nobody_asks_for_is_not_run() -> None:
    work = of_convs("conv2d", "conv2d_1", conv2d=rows(0, 8))

    assert [kernel.operator for kernel in work.kernels] == ["conv2d"]
    assert {item.tensor for item in work.weights} < set(convs(3, 3).weights)


def test_a_tensor_in_several_pieces_is_made_as_their_hull() -> None:
    shard = Shard(0, (("conv2d", rows(0, 1)), ("conv2d", rows(4, 5))))

    work = stage_kernels(convs(3, 3), stage("s", ["conv2d"], {}), shard)

    assert dict(work.kernels[0].outputs) == {"conv2d": rows(0, 5).region}
    assert work.outputs == (("conv2d", rows(0, 1).region), ("conv2d", rows(4, 5).region))


def test_a_partial_sum_reads_its_slices_of_the_weights() -> None:
    owned = summed(mlp(), "linear_1", {0: (0, 2)})
    pair = stage("pair", ["linear", "relu", "linear_1"], owned)

    work = stage_kernels(mlp(), pair, pair.shards[0])

    assert dict(work.kernels[1].outputs) == {"relu": Region.of([(0, 2), (0, 2)])}
    shapes = sorted(item.region.shape for item in work.weights)
    assert (2, 4) in shapes  # two of six columns of the first product
    assert (4, 2) in shapes  # two of six rows of the second


def test_answers_are_remembered() -> None:
    assert of_convs("conv2d", conv2d=rows(0, 2)) is of_convs("conv2d", conv2d=rows(0, 2))


def test_a_partial_sum_is_not_read_in_its_stage() -> None:
    full = Region.full((2, 4))
    shard = Shard(0, (("linear_1", Piece(full, Interval(0, 6))), ("relu_1", Piece(full))))

    with pytest.raises(InvalidPlanError, match="reads 'linear_1', which it makes as a partial sum"):
        stage_kernels(mlp(), stage("s", ["linear", "relu", "linear_1", "relu_1"], {}), shard)


def test_a_tensor_of_another_stage_is_refused() -> None:
    with pytest.raises(InvalidPlanError, match="stage 's' does not make 'conv2d_1'"):
        of_convs("conv2d", conv2d_1=rows(0, 2))
