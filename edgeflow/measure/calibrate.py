"""Measure a graph's operators on this machine, as the basis of predictions."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from typing import Any

from edgeflow.cluster.cluster import Cluster
from edgeflow.cost.model import MESSAGE_OVERHEAD_S, CostModel, Measurement, written_elements
from edgeflow.cost.runs import MeasuredRuns
from edgeflow.cost.work import work_of
from edgeflow.graph.ir import Array, ModelGraph
from edgeflow.graph.structure import flatten_inputs
from edgeflow.kernels import AUTO, Executor, make_executor
from edgeflow.kernels.base import Weights
from edgeflow.kernels.threads import threads_restored
from edgeflow.measure.cases import graph_cases
from edgeflow.measure.device import condense
from edgeflow.measure.frames import measure_frames
from edgeflow.measure.kernels import Clock, StartProbe, clock_for, measure, net_s
from edgeflow.measure.runs import measure_runs, run_passes
from edgeflow.plan.program import Buffer, Compute, Program
from edgeflow.plan.stage import Piece, Shard, Stage
from edgeflow.plan.stage_kernels import StageKernels, stage_kernels
from edgeflow.rank.local import weights_of
from edgeflow.sharding.cut import iter_slices
from edgeflow.sharding.region import Region


def calibrate(
    graph: ModelGraph,
    cluster: Cluster,
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    threads: int = 1,
    executor: str = AUTO,
    repeats: int = 5,
    slices_s: float = 10.0,
    runs_s: float = 10.0,
    frames: bool = True,
    on_operator: Callable[[int, int], None] = lambda done, total: None,
) -> CostModel:
    """Return a cost model in which this machine is the fastest device of ``cluster``.

    Every operator is timed on its whole input, in its own dtypes, in passes over the graph, so that caches
    are as in a request; the median counts. Then runs of operators are timed, from all of them down to pairs
    (`edgeflow.measure.runs`), since back ends fuse neighbours. Then slices of the operators are timed, and a
    profile is fitted to them: it gives a slice's share of its operator's time. Last, frames are sent over
    the loopback interface; their processor cost is used for every device.

    Args:
        args: Inputs, as the module takes them.
        kwargs: Keyword inputs, as the module takes them.
        threads: Threads per operator.
        executor: Back end to measure, as on the workers; by default the best that is installed.
        repeats: Timed passes over the graph.
        slices_s: Most seconds for slices; with 0 the cost of slices follows from FLOPs and bytes.
        runs_s: Most seconds for runs of operators, longest runs first; with 0 operators are assumed to cost
            the same together as alone.
        frames: Whether to measure frames; if not, `CostModel` assumes their cost.
        on_operator: Called with the number of operators, runs and slices done, and their total.

    Raises:
        ConfigError: If the inputs do not fit the graph.
    """
    inputs = flatten_inputs(graph, args, kwargs)
    whole = _whole(graph)
    program = _one_by_one(graph, whole)
    cases = graph_cases(graph) if slices_s > 0 else []
    count, clock = len(whole.kernels), clock_for(threads)
    with threads_restored():
        backend = make_executor(executor, threads=threads)
        # The number of runs depends on the operators' times; until these are known no run is counted.
        seconds, start_s = _passes(
            program,
            weights_of(graph, program),
            inputs,
            repeats,
            backend,
            clock,
            lambda done: on_operator(done, count + len(cases)),
        )
        alone_s = [statistics.median(seconds[kernel.operator]) for kernel in whole.kernels]
        passes = run_passes(graph, alone_s) if runs_s > 0 else []
        total = count + sum(len(bounds) for bounds in passes) + len(cases)
        spans = measure_runs(
            graph,
            whole,
            passes,
            backend,
            budget_s=runs_s,
            clock=clock,
            base_s=start_s,
            on_run=lambda done: on_operator(count + done, total),
        )
        samples = measure(
            cases,
            backend,
            budget_s=slices_s,
            clock=clock,
            base_s=start_s,
            on_case=lambda done, _: on_operator(total - len(cases) + done, total),
        )
    measured = {
        kernel.operator: Measurement(
            seconds=taken,
            flops=kernel.flops,
            num_bytes=kernel.num_bytes,
            work=work_of(kernel),
            elements=written_elements(kernel),
            dtypes=kernel.dtypes,
        )
        for kernel, taken in zip(whole.kernels, alone_s, strict=True)
    }
    runs = MeasuredRuns(operators=tuple(measured), alone_s=tuple(alone_s), spans=spans) if spans else None
    fastest = max(cluster.devices, key=lambda device: device.flops_per_second)
    message = measure_frames() if frames else None
    return CostModel(
        cluster=cluster,
        message_overhead_s=message.send_s if message else MESSAGE_OVERHEAD_S,
        message_s_per_byte=message.send_s_per_byte if message else 0.0,
        measured=measured,
        measured_runs=runs,
        measured_start_s=start_s,
        measured_flops_per_second=fastest.flops_per_second,
        measured_rates=fastest.rates or (),
        reference=condense(graph.name, samples) if samples else None,
    )


def _passes(
    program: Program,
    weights: Weights,
    inputs: Mapping[str, Array],
    repeats: int,
    executor: Executor,
    clock: Clock,
    on_operator: Callable[[int], None],
) -> tuple[dict[str, list[float]], float]:
    """Run the program once to warm up and ``repeats`` times for the clock.

    Returns:
        Operator -> its seconds less the start of a `Compute`; the seconds of that start.
    """
    runnable = executor.prepare(program, weights)
    computes = [item for item in program.instructions if isinstance(item, Compute)]
    last_use = {buffer: index for index, item in enumerate(computes) for _, buffer in item.inputs}
    seconds: dict[str, list[float]] = {item.stage: [] for item in computes}
    probe = StartProbe(executor, clock)
    for number in range(repeats + 1):
        buffers = {buffer: inputs[name] for name, buffer in program.inputs}
        for index, item in enumerate(computes):
            start = clock()
            runnable.compute(index, buffers)
            taken = clock() - start
            if number:
                seconds[item.stage].append(taken)
                probe.run()
            else:
                on_operator(index + 1)
            for _, buffer in item.inputs:
                if last_use[buffer] == index:
                    buffers.pop(buffer, None)
    start_s = probe.start_s
    return {name: [net_s(taken, start_s) for taken in found] for name, found in seconds.items()}, start_s


def _one_by_one(graph: ModelGraph, whole: StageKernels) -> Program:
    """Return a program with one `Compute` per whole operator, named like the operator."""
    made = [name for op in graph.operators for name in op.used_outputs]
    numbers = {name: number for number, name in enumerate((*graph.inputs, *made))}
    computes = []
    for kernel in whole.kernels:
        read = dict.fromkeys(item.tensor for item in iter_slices(kernel.steps) if item.tensor in numbers)
        computes.append(
            Compute(
                stage=kernel.operator,
                kernels=(kernel,),
                inputs=tuple((name, numbers[name]) for name in read),
                outputs=tuple((name, numbers[name]) for name, _ in kernel.outputs if name),
            )
        )
    return Program(
        rank=0,
        instructions=tuple(computes),
        buffers=tuple(
            Buffer(name, Region.full(graph.specs[name].shape), graph.specs[name].dtype) for name in numbers
        ),
        inputs=tuple((name, numbers[name]) for name in graph.inputs),
        weights=whole.weights,
    )


def _whole(graph: ModelGraph) -> StageKernels:
    outputs = tuple(
        (name, Piece(Region.full(graph.specs[name].shape)))
        for op in graph.operators
        for name in op.outputs
        if name
    )
    stage = Stage(
        name="whole",
        kind="single",
        operators=tuple(op.name for op in graph.operators),
        shards=(Shard(0, outputs),),
    )
    return stage_kernels(graph, stage, stage.shards[0])
