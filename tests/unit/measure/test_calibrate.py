"""Measuring operators on this machine: every one of them, and nothing changed by it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import edgeflow as ef
from edgeflow.errors import ConfigError
from edgeflow.measure.kernels import Case, kernel_of
from edgeflow.sharding.region import Interval, Region
from tests.unit.plan.tiny import mlp

_X = torch.ones(2, 4)


def test_every_operator_is_measured_and_scaled_to_the_fastest_device() -> None:
    seen: list[tuple[int, int]] = []
    cluster = ef.Cluster.local([0.5, 1.0])

    cost = ef.calibrate(
        mlp(),
        cluster,
        (_X,),
        repeats=2,
        slices_s=0,
        runs_s=0,
        frames=False,
        on_operator=lambda *done: seen.append(done),
    )

    assert set(cost.measured) == {op.name for op in mlp().operators}
    assert all(item.seconds > 0 for item in cost.measured.values())
    assert cost.measured["linear"].flops == 2 * 2 * 4 * 6
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert cost.reference is None
    (kernel,) = (
        kernel
        for instruction in ef.plan(mlp(), cluster, strategy="single").programs[0].instructions
        for kernel in getattr(instruction, "kernels", ())
        if kernel.operator == "linear"
    )
    assert cost.kernel_s(1, kernel) == pytest.approx(cost.measured["linear"].seconds)
    assert cost.kernel_s(0, kernel) == pytest.approx(2 * cost.measured["linear"].seconds)


def test_slices_are_measured_and_take_their_share_of_the_whole() -> None:
    cluster = ef.Cluster.local([1.0, 0.5])

    cost = ef.calibrate(mlp(), cluster, (_X,), repeats=2, slices_s=2.0, frames=False)

    assert cost.reference is not None
    assert {item.family for item in cost.reference.families} == {"linear", "pointwise"}
    for operator in mlp().operators:
        whole = Region.full(mlp().specs[operator.output].shape)
        kernels = [
            kernel_of(Case(mlp(), operator.name, region))
            for region in (whole, whole.replace(0, Interval(0, 1)))
        ]
        full_s, half_s = (cost.kernel_s(0, kernel) for kernel in kernels)
        assert full_s == pytest.approx(cost.measured[operator.name].seconds)
        assert 0 < half_s <= full_s * (1 + 1e-9)
        assert cost.kernel_s(1, kernels[1]) == pytest.approx(2 * half_s)


class _Turned(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2).contiguous().view(2, -1).relu()


def test_operators_are_measured_as_workers_run_them() -> None:
    """The copy between the two is dropped at capture; ATen's own view would not take the turned tensor."""
    x = torch.randn(2, 3, 4)
    graph = ef.capture(_Turned(), (x,))

    cost = ef.calibrate(graph, ef.Cluster.local(), (x,), repeats=1, slices_s=0, frames=False)

    assert set(cost.measured) == {operator.name for operator in graph.operators}
    assert cost.measured_runs is not None
    assert cost.measured_runs.operators == tuple(operator.name for operator in graph.operators)


def test_it_leaves_torchs_threads_as_they_were() -> None:
    before = torch.get_num_threads()

    ef.calibrate(mlp(), ef.Cluster.local(), (_X,), repeats=1, threads=before + 1, slices_s=0, frames=False)

    assert torch.get_num_threads() == before


def test_inputs_that_do_not_fit() -> None:
    with pytest.raises(ConfigError, match="captured for shape"):
        ef.calibrate(mlp(), ef.Cluster.local(), (torch.ones(3, 3),))
