"""Measure a graph's operators on this machine, so that predictions start from what was seen."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from typing import Any

import torch

from edgeflow.cluster.cluster import Cluster
from edgeflow.cost.model import MESSAGE_OVERHEAD_S, CostModel, Measurement
from edgeflow.cost.work import work_of
from edgeflow.graph.aten import call_overload, overload, symbol_value
from edgeflow.graph.ir import ModelGraph, Operator, Symbol, TensorRef
from edgeflow.graph.structure import flatten_inputs, to_torch
from edgeflow.plan.stage import Piece, Shard, Stage
from edgeflow.plan.stage_kernels import stage_kernels
from edgeflow.runtime.executor import get_executor
from edgeflow.runtime.profile.cases import graph_cases
from edgeflow.runtime.profile.device import condense
from edgeflow.runtime.profile.frames import measure_frames
from edgeflow.runtime.profile.measure import Clock, clock_for, measure
from edgeflow.sharding.region import Region


def calibrate(
    graph: ModelGraph,
    cluster: Cluster,
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    threads: int = 1,
    repeats: int = 5,
    slices_s: float = 10.0,
    frames: bool = True,
    on_operator: Callable[[int, int], None] = lambda done, total: None,
) -> CostModel:
    """Return a cost model in which this machine is the fastest device of ``cluster``.

    Every operator is timed on its whole input, in passes over the graph, so that it finds in the caches what
    it finds in a request; the median counts. Then slices of the operators are timed, and a profile is fitted
    to them: it says what share of an operator's time a slice takes. Last, frames are sent over the loopback
    interface: what they cost the processor stands for every device.

    Args:
        args: Inputs, as the module takes them.
        kwargs: Keyword inputs, as the module takes them.
        threads: That one operator may use.
        repeats: Timed passes over the graph.
        slices_s: Time for slices, at most; 0 measures none, and slices are taken to cost by FLOPs and bytes.
        frames: Whether to measure frames; without, they cost what `CostModel` assumes.
        on_operator: Told how many operators and slices are done, of how many.

    Raises:
        ConfigError: If the inputs do not fit the graph.
    """
    inputs = flatten_inputs(graph, args, kwargs)
    values = {name: to_torch(array) for name, array in (*inputs.items(), *graph.weights.items())}
    cases = graph_cases(graph) if slices_s > 0 else []
    total = len(graph.operators) + len(cases)
    clock = clock_for(threads)
    before = torch.get_num_threads()
    executor = get_executor("torch", threads=threads)
    try:
        seconds = _passes(graph, values, repeats, clock, lambda done: on_operator(done, total))
        samples = measure(
            cases,
            executor,
            budget_s=slices_s,
            clock=clock,
            on_case=lambda done, _: on_operator(len(graph.operators) + done, total),
        )
    finally:
        torch.set_num_threads(before)
    whole = {kernel.operator: kernel for kernel in _whole_kernels(graph)}
    measured = {
        name: Measurement(
            seconds=statistics.median(taken),
            flops=whole[name].flops,
            num_bytes=whole[name].num_bytes,
            work=work_of(whole[name]),
        )
        for name, taken in seconds.items()
    }
    fastest = max(device.flops_per_second for device in cluster.devices)
    message = measure_frames() if frames else None
    return CostModel(
        cluster=cluster,
        message_overhead_s=message.send_s if message else MESSAGE_OVERHEAD_S,
        message_s_per_byte=message.send_s_per_byte if message else 0.0,
        measured=measured,
        measured_flops_per_second=fastest,
        reference=condense(graph.name, samples) if samples else None,
    )


def _passes(
    graph: ModelGraph,
    values: Mapping[str, Any],
    repeats: int,
    clock: Clock,
    on_operator: Callable[[int], None],
) -> dict[str, list[float]]:
    """Run the graph once to warm up and ``repeats`` times for the clock; operator -> its seconds."""
    last_use = {name: index for index, op in enumerate(graph.operators) for name in op.inputs}
    seconds: dict[str, list[float]] = {op.name: [] for op in graph.operators}
    for number in range(repeats + 1):
        alive = dict(values)
        for index, op in enumerate(graph.operators):
            call = _call(op, alive)
            with torch.inference_mode():
                start = clock()
                result = call()
                taken = clock() - start
            if number:
                seconds[op.name].append(max(taken, 1e-9))
            results = result if isinstance(result, list | tuple) else [result]
            alive.update({name: item for name, item in zip(op.outputs, results, strict=True) if name})
            for name in dict.fromkeys(op.inputs):
                if last_use[name] == index and name not in graph.weights:
                    alive.pop(name, None)
            if number == repeats:
                on_operator(index + 1)
    return seconds


def _whole_kernels(graph: ModelGraph) -> Any:
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
    return stage_kernels(graph, stage, stage.shards[0]).kernels


def _call(op: Operator, values: Mapping[str, Any]) -> Callable[[], Any]:
    def resolve(value: Any) -> Any:
        if isinstance(value, TensorRef):
            return values[value.name]
        if isinstance(value, Symbol):
            return symbol_value(value)
        if isinstance(value, tuple):
            return [resolve(item) for item in value]
        return value

    function = overload(op.target)
    arguments = [(name, resolve(value)) for name, value in op.arguments]
    return lambda: call_overload(function, arguments)
