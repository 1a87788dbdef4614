"""Measure a graph's operators on this machine, so that predictions start from what was seen."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

from edgeflow.cluster.cluster import Cluster
from edgeflow.cost.model import CostModel, Measurement
from edgeflow.graph.aten import call_overload, overload, symbol_value
from edgeflow.graph.ir import ModelGraph, Operator, Symbol, TensorRef
from edgeflow.graph.structure import flatten_inputs, to_torch
from edgeflow.plan.stage import Piece, Shard, Stage
from edgeflow.plan.stage_kernels import stage_kernels
from edgeflow.sharding.region import Region


def calibrate(
    graph: ModelGraph,
    cluster: Cluster,
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    threads: int = 1,
    repeats: int = 5,
    on_operator: Callable[[int, int], None] = lambda done, total: None,
) -> CostModel:
    """Return a cost model in which this machine is the fastest device of ``cluster``.

    Every operator is timed alone on its whole input, after one run to warm up; the median counts. What a
    worker adds around operators is not in it.

    Args:
        args: Inputs, as the module takes them.
        kwargs: Keyword inputs, as the module takes them.
        threads: That one operator may use.
        repeats: Timed runs of each operator.
        on_operator: Told how many operators are done, of how many.

    Raises:
        ConfigError: If the inputs do not fit the graph.
    """
    inputs = flatten_inputs(graph, args, kwargs)
    values: dict[str, Any] = {
        name: to_torch(array) for name, array in (*inputs.items(), *graph.weights.items())
    }
    whole = {kernel.operator: kernel for kernel in _whole_kernels(graph)}
    last_use = {name: index for index, op in enumerate(graph.operators) for name in op.inputs}
    measured = {}
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for index, op in enumerate(graph.operators):
            seconds, result = _time(_call(op, values), repeats)
            results = result if isinstance(result, list | tuple) else [result]
            values.update({name: item for name, item in zip(op.outputs, results, strict=True) if name})
            for name in dict.fromkeys(op.inputs):
                if last_use[name] == index and name not in graph.weights:
                    values.pop(name, None)
            kernel = whole[op.name]
            measured[op.name] = Measurement(seconds, kernel.flops, kernel.num_bytes)
            on_operator(index + 1, len(graph.operators))
    finally:
        torch.set_num_threads(before)
    fastest = max(device.flops_per_second for device in cluster.devices)
    return CostModel(cluster=cluster, measured=measured, measured_flops_per_second=fastest)


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


def _time(call: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    seconds = []
    with torch.inference_mode():
        result = call()
        for _ in range(repeats):
            start = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - start)
    return statistics.median(seconds), result
