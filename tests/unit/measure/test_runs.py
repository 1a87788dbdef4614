"""Runs of operators, timed by a clock and a back end that are made up: one that fuses what it can."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
import torch

import edgeflow as ef
from edgeflow.cost import CostModel, predict
from edgeflow.graph.ir import Array, ModelGraph
from edgeflow.measure import calibrate as calibration
from edgeflow.measure.kernels import StartProbe
from edgeflow.measure.runs import run_of, run_passes
from edgeflow.plan.program import Compute, Kernel, Program
from edgeflow.planner.task import whole_kernels
from tests.unit.plan.tiny import convs, mlp

_START_S, _KERNEL_S, _LINEAR_S, _RELU_S = 10e-6, 1e-6, 3e-3, 1e-3


class Fusing:
    """A back end and its clock: a relu right behind what it reads costs nothing but a call."""

    name = "fusing"

    def __init__(self) -> None:
        self.now_s = 0.0
        self.ran: list[tuple[str, ...]] = []

    def prepare(self, program: Program, weights: object, hashes: object = None) -> _Prepared:
        return _Prepared(self, program)

    def run(self, kernels: Sequence[Kernel]) -> None:
        self.now_s += _START_S
        made = {name for kernel in kernels for name, _ in kernel.outputs}
        for kernel in kernels:
            self.now_s += _KERNEL_S
            target = kernel.steps[-1].target
            read = [getattr(value, "tensor", None) for _, value in kernel.steps[-1].arguments]
            if "linear" in target:
                self.now_s += _LINEAR_S
            elif "relu" in target and not made & set(read):
                self.now_s += _RELU_S
        self.ran.append(tuple(kernel.operator for kernel in kernels))


class _Prepared:
    def __init__(self, back_end: Fusing, program: Program) -> None:
        self._back_end, self._program = back_end, program

    def compute(self, instruction_index: int, buffers: dict[int, Array]) -> None:
        instruction = self._program.instructions[instruction_index]
        assert isinstance(instruction, Compute)
        assert all(buffers[number].dtype for _, number in instruction.inputs)
        self._back_end.run(instruction.kernels)
        for _, number in instruction.outputs:
            buffers[number] = np.zeros(self._program.buffers[number].region.shape, np.float32)


@pytest.fixture
def fusing(monkeypatch: pytest.MonkeyPatch) -> Fusing:
    back_end = Fusing()
    monkeypatch.setattr(calibration, "make_executor", lambda *args, **kwargs: back_end)
    monkeypatch.setattr(calibration, "clock_for", lambda threads: lambda: back_end.now_s)
    return back_end


def calibrated(*, runs_s: float = 10.0) -> CostModel:
    cluster = ef.Cluster.local([1.0, 0.5])
    x = torch.ones(2, 4)
    return ef.calibrate(mlp(), cluster, (x,), repeats=2, slices_s=0, runs_s=runs_s, frames=False)


def parts(*names: str) -> list[Kernel]:
    return [kernel for kernel in whole_kernels(mlp()) if kernel.operator in names]


@pytest.mark.usefixtures("fusing")
def test_together_costs_what_it_took_together() -> None:
    cost = calibrated()

    assert cost.measured_start_s == pytest.approx(_START_S)
    whole = _START_S + 4 * _KERNEL_S + 2 * _LINEAR_S
    everything = parts("linear", "relu", "linear_1", "relu_1")
    assert cost.compute_s(0, everything) == pytest.approx(whole)
    assert cost.compute_s(1, everything) == pytest.approx(2 * whole)  # on a device of half the speed
    pair = _START_S + 2 * _KERNEL_S + _LINEAR_S
    assert cost.compute_s(0, parts("linear", "relu")) == pytest.approx(pair)
    # In the wrong company it is not fused: as it was measured, too.
    assert cost.compute_s(0, parts("relu", "linear_1")) == pytest.approx(pair + _RELU_S)
    assert cost.compute_s(0, parts("relu")) == pytest.approx(_START_S + _KERNEL_S + _RELU_S)
    assert cost.compute_s(0, []) == 0.0


@pytest.mark.usefixtures("fusing")
def test_the_plan_of_one_device_is_predicted_by_what_it_took() -> None:
    cost = calibrated()

    plan = ef.plan(mlp(), cost.cluster, strategy="single", cost=cost)

    assert predict(plan, cost).compute_s[0] == pytest.approx(_START_S + 4 * _KERNEL_S + 2 * _LINEAR_S)


@pytest.mark.usefixtures("fusing")
def test_without_time_for_runs_operators_add_up() -> None:
    cost = calibrated(runs_s=0)

    assert cost.measured_runs is None
    found = cost.compute_s(0, parts("linear", "relu"))
    assert found == pytest.approx(_START_S + 2 * _KERNEL_S + _LINEAR_S + _RELU_S)


def test_the_longest_runs_come_first_and_the_budget_ends_them(
    fusing: Fusing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One pass is begun whatever the time; each reading of the clock is a second here."""
    ticks = iter(range(10_000))
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(ticks)))

    cost = calibrated(runs_s=1.5)

    assert cost.measured_runs is not None
    assert [(span.start, span.stop) for span in cost.measured_runs.spans] == [(0, 4)]
    assert sum(len(names) == 4 for names in fusing.ran) == 1 + 3  # to warm up, and for a median


def test_starting_is_told_from_kernels() -> None:
    back_end = Fusing()
    probe = StartProbe(back_end, lambda: back_end.now_s)
    assert probe.start_s == 0.0

    for _ in range(10):
        probe.run()

    assert probe.start_s == pytest.approx(_START_S)


def test_progress_counts_operators_and_runs(fusing: Fusing) -> None:
    seen: list[tuple[int, int]] = []
    x = torch.ones(2, 4)
    ef.calibrate(
        mlp(),
        ef.Cluster.local(),
        (x,),
        repeats=1,
        slices_s=0,
        frames=False,
        on_operator=lambda *progress: seen.append(progress),
    )

    assert seen[:4] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    done, total = seen[-1]
    assert done == total > 4
    assert {names for names in fusing.ran if len(names) == 4} == {("linear", "relu", "linear_1", "relu_1")}


def pieces(graph: ModelGraph, alone_s: Sequence[float]) -> list[list[tuple[int, int]]]:
    passes = run_passes(graph, alone_s)
    for bounds in passes:
        assert all(stop <= start for (_, stop), (start, _) in pairwise(bounds))
    return passes


def test_runs_are_halved_down_to_pairs_with_neighbours_across_each_border() -> None:
    graph = convs(3, 3, 3, 3)

    found = pieces(graph, [1.0] * 4)

    assert found[0] == [(0, 4)]
    assert {bounds for one_pass in found for bounds in one_pass} == {(0, 4), (0, 2), (2, 4), (1, 3)}


def test_parts_are_divided_where_few_bytes_cross() -> None:
    """Of cuts near the middle of the time; ``linear`` makes 2 x 6 elements, ``linear_1`` 2 x 4."""
    assert mlp().alive_bytes == (0, 48, 48, 32, 32)

    assert pieces(mlp(), [1.0, 0.1, 1.0, 1.0])[1] == [(0, 3)]
    # Behind the third operator fewer bytes cross, but four fifths of the time lie before that.
    assert (1, 4) in pieces(mlp(), [3.0, 0.1, 1.0, 1.0])[1]


def test_an_operator_alone_has_no_runs() -> None:
    assert pieces(convs(3), [1.0]) == []
    assert run_passes(convs(3), []) == []


def test_a_run_hands_out_what_is_read_behind_it() -> None:
    kernels = whole_kernels(mlp())
    run = run_of(mlp(), calibration._whole(mlp()), 1, 3)

    assert run.kernels == kernels[1:3]
    assert [name for name, _ in run.needs] == ["linear"]
    assert [name for name, _ in run.outputs] == ["linear_1"]
    assert len(run.weights) == 2
