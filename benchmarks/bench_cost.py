"""How far predicted durations are from measured ones: slices of real operators, and whole models.

Rows, channels, columns, heads and partial sums of the operators of a CNN and of two models with attention,
one thread. Compared on the same measurements:

by FLOPs      the whole operator's time, in proportion to FLOPs
calibrated    what `edgeflow.calibrate` returns: whole operators, and slices in proportion to a fitted profile
profile       what `edgeflow profile` would have found on this machine, which has not seen the model

The slices that are predicted are not those that `calibrate` measures. Durations are processor time, so that
other processes matter less.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Iterator

import numpy as np
from result import Result

import edgeflow as ef
from edgeflow.cost import CostModel
from edgeflow.cost.kernels import Sample, profile_s
from edgeflow.cost.work import work_of
from edgeflow.graph.ir import ModelGraph, Operator
from edgeflow.kernels import make_executor
from edgeflow.measure.device import profile_device
from edgeflow.measure.kernels import Case, clock_for, kernel_of, measure
from edgeflow.plan.program import CLIENT, Compute, Kernel
from edgeflow.rank.local import weights_of
from edgeflow.sharding.region import Interval, Region
from edgeflow.sharding.rules import contraction_size, rule_of
from edgeflow.testing import zoo

MODELS = ("resnet50", "hf-vit-base", "openworld-base")
#: Products are where the time goes, and where slices differ most from their share.
FAMILIES = ("conv", "conv_1x1", "conv_grouped", "linear", "matmul", "attention")
SLICES_OF_A_MODEL = 150
BUDGET_S = 20.0


def run(seed: int) -> Iterator[Result]:
    executor = make_executor("auto", threads=1)
    clock = clock_for(1)
    device = profile_device(budget_s=BUDGET_S).profile
    cluster = ef.Cluster.local([1.0])
    for name in MODELS:
        example = zoo.build(name)
        graph = ef.capture(example.module, example.args, kwargs=example.kwargs, name=name)
        calibrated = ef.calibrate(graph, cluster, example.args, example.kwargs, slices_s=BUDGET_S)
        cases = _slices(graph, random.Random(seed))
        samples = measure(cases, executor, budget_s=BUDGET_S, clock=clock)
        kernels = [kernel_of(case) for case in cases[: len(samples)]]
        settings = {"threads": 1, "slices": len(samples)}
        for family in (*FAMILIES, "all"):
            chosen = [
                (kernel, sample)
                for kernel, sample in zip(kernels, samples, strict=True)
                if family in (sample.work.family, "all")
            ]
            if chosen:
                yield Result(
                    benchmark="cost",
                    case=f"{name}, slices of {family}",
                    values={
                        "num_slices": float(len(chosen)),
                        **_errors("by_flops", [_by_flops(calibrated, k) for k, _ in chosen], chosen),
                        **_errors("calibrated", [calibrated.compute_s(0, (k,)) for k, _ in chosen], chosen),
                        **_errors("profile", [profile_s(device, s.work) for _, s in chosen], chosen),
                    },
                    settings=settings,
                    seed=seed,
                )
        measured_s, whole = _whole_model(graph, cluster)
        yield Result(
            benchmark="cost",
            case=f"{name}, whole",
            values={
                "measured_s": measured_s,
                "calibrated_s": calibrated.compute_s(0, whole),
                "profile_s": sum(profile_s(device, work_of(kernel)) for kernel in whole),
            },
            settings={"threads": 1},
            seed=seed,
        )


def _slices(graph: ModelGraph, random_: random.Random) -> list[Case]:
    """Slices of random operators that contain products, along a random dim or as partial sums."""
    operators = [
        op for op in graph.operators if not rule_of(op).is_view and contraction_size(op, graph.specs)
    ]
    operators += [op for op in graph.operators if op.target.startswith("aten.scaled_dot")]
    return [_slice(graph, random_.choice(operators), random_) for _ in range(SLICES_OF_A_MODEL)]


def _slice(graph: ModelGraph, operator: Operator, random_: random.Random) -> Case:
    region = Region.full(graph.specs[operator.output].shape)
    part = random_.uniform(0.08, 0.8)
    inner = contraction_size(operator, graph.specs) or 1
    if inner > 1 and random_.random() < 0.2:
        return Case(graph, operator.name, region, Interval(0, max(1, round(inner * part))))
    dims = [dim for dim, interval in enumerate(region.intervals) if interval.length > 1]
    dim = random_.choice(dims)
    size = region[dim].length
    length = max(1, round(size * part))
    start = random_.randint(0, size - length)
    return Case(graph, operator.name, region.replace(dim, Interval(start, start + length)))


def _by_flops(calibrated: CostModel, kernel: Kernel) -> float:
    whole = calibrated.measured[kernel.operator]
    return whole.seconds * kernel.flops / whole.flops


def _errors(label: str, predicted: list[float], chosen: list[tuple[Kernel, Sample]]) -> dict[str, float]:
    errors = [abs(p / sample.seconds - 1) for p, (_, sample) in zip(predicted, chosen, strict=True)]
    return {
        f"{label}_median_error": statistics.median(errors),
        f"{label}_p90_error": float(np.quantile(errors, 0.9)),
    }


def _whole_model(graph: ModelGraph, cluster: ef.Cluster) -> tuple[float, list[Kernel]]:
    """(processor seconds of one request on one device, its kernels)."""
    plan = ef.plan(graph, cluster, strategy="single")
    program = plan.programs[0]
    assert set(plan.programs) == {CLIENT, 0}
    runnable = make_executor("auto", threads=1).prepare(program, weights_of(graph, program))
    generator = np.random.default_rng(0)
    buffers = {
        number: generator.standard_normal(buffer.region.shape, dtype=np.float32)
        for number, buffer in enumerate(program.buffers)
    }
    computes = [(index, item) for index, item in enumerate(program.instructions) if isinstance(item, Compute)]
    seconds = []
    for _ in range(12):
        start = time.thread_time()
        for index, _compute in computes:
            runnable.compute(index, dict(buffers))
        seconds.append(time.thread_time() - start)
    return statistics.median(seconds[2:]), [kernel for _, item in computes for kernel in item.kernels]
