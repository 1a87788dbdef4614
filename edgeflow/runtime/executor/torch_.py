"""The reference back end: every step is the ATen call that it names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from edgeflow.graph.aten import call_overload, overload, symbol_value
from edgeflow.graph.ir import NUMPY_DTYPES, Array, Symbol
from edgeflow.graph.structure import to_array, to_torch
from edgeflow.plan.program import Compute, Program
from edgeflow.runtime.executor.base import Weights
from edgeflow.sharding.cut import Literal, Result, Slice, Step, iter_slices
from edgeflow.sharding.region import Region

#: Tensors alive inside one Compute, by name.
_Env = dict[str, torch.Tensor]
#: Makes one argument of a call out of the environment and the results of earlier steps.
_Getter = Callable[[_Env, list[Any]], Any]


class TorchExecutor:
    """Runs kernels with torch on the CPU."""

    def __init__(self, *, threads: int | None = None) -> None:
        if threads is not None:
            torch.set_num_threads(threads)

    @property
    def name(self) -> str:
        return "torch"

    def prepare(self, program: Program, weights: Weights) -> TorchRunnable:
        tensors = {key: to_torch(value) for key, value in weights.items()}
        return TorchRunnable(program, tensors)


class TorchRunnable:
    """A program whose calls are resolved and whose slices are computed."""

    def __init__(self, program: Program, weights: Mapping[tuple[str, Region], torch.Tensor]) -> None:
        self._computes = {
            index: _Compiled(instruction, program, weights)
            for index, instruction in enumerate(program.instructions)
            if isinstance(instruction, Compute)
        }

    def compute(self, instruction_index: int, buffers: dict[int, Array]) -> None:
        with torch.inference_mode():
            self._computes[instruction_index].run(buffers)


class _Compiled:
    def __init__(
        self, instruction: Compute, program: Program, weights: Mapping[tuple[str, Region], torch.Tensor]
    ) -> None:
        self._inputs = instruction.inputs
        self._outputs = instruction.outputs
        made = {name: _made_region(instruction, name) for name, _ in instruction.outputs}
        #: Of each result: where it is in what is made, and whether it is all of that.
        self._kept = [
            (region.slices(made[name]), region == made[name])
            for name, buffer in instruction.outputs
            for region in (program.buffers[buffer].region,)
        ]
        regions = {name: program.buffers[buffer].region for name, buffer in instruction.inputs}
        kept = {name for name, _ in instruction.outputs}
        last_use = {
            item.tensor: index
            for index, kernel in enumerate(instruction.kernels)
            for item in iter_slices(kernel.steps)
        }
        self._kernels = []
        for index, kernel in enumerate(instruction.kernels):
            calls = [_compile_step(step, regions, weights) for step in kernel.steps]
            dead = [name for name, last in last_use.items() if last == index and name not in kept]
            self._kernels.append((calls, [name for name, _ in kernel.outputs], dead))
            regions.update({name: region for name, region in kernel.outputs if name})

    def run(self, buffers: dict[int, Array]) -> None:
        env: _Env = {name: to_torch(buffers[buffer]) for name, buffer in self._inputs}
        for calls, outputs, dead in self._kernels:
            results: list[Any] = []
            for run_call in calls:
                results.append(run_call(env, results))
            made = results[-1]
            if len(outputs) == 1:
                env[outputs[0]] = made
            else:
                env.update({name: item for name, item in zip(outputs, made, strict=True) if name})
            for name in dead:
                env.pop(name, None)
        for (name, buffer), (where, is_all) in zip(self._outputs, self._kept, strict=True):
            # A part is copied, so that the rest does not stay in memory with it.
            buffers[buffer] = to_array(env[name] if is_all else env[name][where].clone())


def _made_region(instruction: Compute, tensor: str) -> Region:
    for kernel in instruction.kernels:
        for name, region in kernel.outputs:
            if name == tensor:
                return region
    raise KeyError(tensor)


def _compile_step(
    step: Step, regions: Mapping[str, Region], weights: Mapping[tuple[str, Region], torch.Tensor]
) -> Callable[[_Env, list[Any]], Any]:
    function = overload(step.target)
    getters = [(name, _getter(value, regions, weights)) for name, value in step.arguments]

    def run(env: _Env, results: list[Any]) -> Any:
        return call_overload(function, [(name, get(env, results)) for name, get in getters])

    return run


def _getter(
    value: Any, regions: Mapping[str, Region], weights: Mapping[tuple[str, Region], torch.Tensor]
) -> _Getter:
    if isinstance(value, Slice):
        return _slice_getter(value, regions, weights)
    if isinstance(value, Result):
        index = value.step
        return lambda env, results: results[index]
    if isinstance(value, tuple):
        items = [_getter(item, regions, weights) for item in value]
        return lambda env, results: [item(env, results) for item in items]
    constant: Any = value
    if isinstance(value, Symbol):
        constant = symbol_value(value)
    elif isinstance(value, Literal):
        constant = to_torch(np.array(value.values, dtype=NUMPY_DTYPES[value.dtype]).reshape(value.shape))
    return lambda env, results: constant


def _slice_getter(
    item: Slice, regions: Mapping[str, Region], weights: Mapping[tuple[str, Region], torch.Tensor]
) -> _Getter:
    name = item.tensor
    if name not in regions:
        weight = weights[name, item.region]
        return lambda env, results: weight
    if item.region == regions[name]:
        return lambda env, results: env[name]
    slices = item.region.slices(regions[name])
    return lambda env, results: env[name][slices]
