"""Measuring kernels on this machine: what, in what order, within what time; no asserted durations."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from edgeflow.cost.kernels import Sample
from edgeflow.cost.work import FAMILIES, Work, work_of
from edgeflow.kernels import make_executor
from edgeflow.measure import kernels as measuring
from edgeflow.measure.cases import device_cases, graph_cases, operator_graph, slices
from edgeflow.measure.device import condense
from edgeflow.measure.host import conditions, free_memory_bytes, processor_name
from edgeflow.measure.kernels import clock_for, kernel_of, measure
from edgeflow.sharding.region import Interval, Region
from tests.unit.plan.tiny import convs, mlp

LINEAR = operator_graph("aten.linear.default", {"input": (1, 4, 32)}, {"weight": (16, 32), "bias": (16,)})


def test_an_operator_is_cut_along_every_dim_and_as_partial_sums() -> None:
    found = list(slices(LINEAR, LINEAR.operators[0]))

    whole = Region.full((1, 4, 16))
    assert (found[0].region, found[0].contraction) == (whole, None)
    assert {case.region[1].length for case in found} == {4, 2, 1}
    assert {case.region[2].length for case in found} == {16, 9, 4, 2}
    assert {case.contraction for case in found} == {None, Interval(0, 16), Interval(0, 6)}


def test_equal_operators_of_a_graph_are_measured_once() -> None:
    """Both convolutions differ in their weights' values only."""
    assert len(graph_cases(convs(3, 3))) == len(graph_cases(convs(3)))
    assert len(graph_cases(mlp())) > len(list(slices(mlp(), mlp().operators[0])))


def test_a_device_is_profiled_over_all_families_in_a_fixed_order() -> None:
    cases = device_cases()
    names = [(case.graph.name, case.region, case.contraction) for case in cases]

    assert {work.family for work in map(_work, cases)} == {*FAMILIES} - {"view"}
    assert 300 < len(cases) < 1200
    again = [(case.graph.name, case.region, case.contraction) for case in device_cases()]
    assert names == again


def _work(case: measuring.Case) -> Work:
    return work_of(kernel_of(case))


def test_kernels_are_measured_with_positive_durations() -> None:
    cases = list(slices(LINEAR, LINEAR.operators[0]))
    seen: list[tuple[int, int]] = []

    samples = measure(
        cases,
        make_executor("torch"),
        budget_s=5.0,
        clock=clock_for(1),
        on_case=lambda *done: seen.append(done),
    )

    assert [sample.work for sample in samples] == [_work(case) for case in cases]
    assert min(sample.seconds for sample in samples) > 0
    assert seen == [(len(cases), len(cases))]


def test_when_time_is_up_no_round_is_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow device measures a fair sample: the first round, at least."""
    monkeypatch.setattr(measuring, "ROUND_BYTES", 1)
    cases = list(slices(LINEAR, LINEAR.operators[0]))

    samples = measure(cases, make_executor("torch"), budget_s=0.0)

    assert [sample.work for sample in samples] == [_work(cases[0])]


def test_one_thread_is_timed_by_its_own_processor_time() -> None:
    assert clock_for(1) is time.thread_time
    assert clock_for(2) is time.perf_counter


def test_a_profile_is_condensed_from_samples() -> None:
    samples = [
        Sample(Work(family="conv", flops=10**8, output_bytes=10**6), 0.01),
        Sample(Work(family="conv", flops=10**8, output_bytes=10**6), 0.02),
        Sample(Work(family="conv", flops=10**8, output_bytes=10**6), 0.04),
        Sample(Work(family="copy", flops=10**3, output_bytes=10**6), 1e-3),
    ]

    made = condense("box", samples)

    assert made.flops_per_second == pytest.approx(5e9)  # the median of the large ones
    assert made.memory_bandwidth_bytes_per_s == pytest.approx(1e9)
    assert [item.family for item in made.families] == ["conv", "copy"]


def test_a_device_on_which_nothing_large_was_measured() -> None:
    made = condense("box", [Sample(Work(family="conv", flops=10**4, output_bytes=10), 1e-5)])

    assert made.flops_per_second == pytest.approx(1e9)


def test_the_host_is_described() -> None:
    found = conditions(3)

    assert found.num_threads == 3
    assert found.num_cores > 0
    assert found.torch
    assert found.date.startswith("20")
    assert free_memory_bytes() > 0


@pytest.mark.parametrize(
    ("files", "name"),
    [
        ({"proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.4\0"}, "Raspberry Pi 4 Model B Rev 1.4"),
        ({"proc/cpuinfo": "processor : 0\nmodel name\t: Some CPU @ 2 GHz\n"}, "Some CPU @ 2 GHz"),
    ],
)
def test_the_name_of_the_board_or_the_processor(tmp_path: Path, files: dict[str, str], name: str) -> None:
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text, encoding="utf-8")

    assert processor_name(tmp_path) == name
