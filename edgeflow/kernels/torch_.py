"""The reference back end: every step calls the ATen operator that it names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch

from edgeflow.errors import ConfigError
from edgeflow.graph.aten import call_overload, overload, symbol_value
from edgeflow.graph.ir import NUMPY_DTYPES, Array, Symbol
from edgeflow.graph.structure import to_array, to_torch
from edgeflow.kernels.base import Hashes, Weights
from edgeflow.plan.program import Compute, Program
from edgeflow.sharding.cut import Literal, Result, Slice, Step, iter_slices
from edgeflow.sharding.region import Region

#: Tensors alive inside one Compute, by name.
_Env = dict[str, torch.Tensor]
#: Returns one argument of a call, given the environment and the results of earlier steps.
_Getter = Callable[[_Env, list[Any]], Any]


class TorchExecutor:
    """Runs kernels with torch.

    Args:
        threads: Number of threads that one operator may use, in the whole process; None keeps the setting.
        device: Torch device that computes; frames and buffers stay in the host's memory.
        dtype: Dtype in which float32 is computed; the outputs of a `Compute` are float32 again.

    Raises:
        ConfigError: If the device cannot be used, or the dtype is unknown.
    """

    def __init__(self, *, threads: int | None = None, device: str = "cpu", dtype: str | None = None) -> None:
        if threads is not None:
            torch.set_num_threads(threads)
        self._place = Place.of(device, dtype)

    @property
    def name(self) -> str:
        return "torch"

    def prepare(self, program: Program, weights: Weights, hashes: Hashes | None = None) -> TorchRunnable:
        tensors = {key: self._place.bring(value) for key, value in weights.items()}
        for key in _conv_weights(program) & tensors.keys():
            tensors[key] = tensors[key].contiguous(memory_format=torch.channels_last)
        return TorchRunnable(program, tensors, self._place)


def _conv_weights(program: Program) -> set[tuple[str, Region]]:
    """Return the weights of 2-D convolutions. In channels-last format they produce channels-last maps.

    This was faster in every measurement (torch 2.13 on one thread of a Zen core, batch 1):
    ResNet-50 3 %, openworld-base 9 %, MobileNetV2 15 %, VGG-16 20 %.
    """
    return {
        (value.tensor, value.region)
        for instruction in program.instructions
        if isinstance(instruction, Compute)
        for kernel in instruction.kernels
        for step in kernel.steps
        if step.target == "aten.conv2d.default"
        for name, value in step.arguments
        if name == "weight" and isinstance(value, Slice)
    }


class Place(NamedTuple):
    """The device that computes, and the dtype in which it computes float32 (None: float32 itself)."""

    device: torch.device
    dtype: torch.dtype | None

    @classmethod
    def of(cls, device: str, dtype: str | None) -> Place:
        """Return the checked place; see `TorchExecutor`."""
        try:
            chosen = torch.device(device)
            torch.empty(1, device=chosen)
        except (RuntimeError, AssertionError) as error:
            first, *_ = str(error).splitlines()
            raise ConfigError(f"device {device!r} cannot be used here: {first}") from error
        if dtype is not None and dtype not in _COMPUTE_DTYPES:
            raise ConfigError(f"no dtype {dtype!r} to compute in; known: {', '.join(_COMPUTE_DTYPES)}")
        return cls(chosen, None if dtype is None else _COMPUTE_DTYPES[dtype])

    @property
    def is_host(self) -> bool:
        return self.device.type == "cpu" and self.dtype is None

    def bring(self, array: Array) -> torch.Tensor:
        """Return an array as a tensor on this device."""
        tensor: torch.Tensor = to_torch(array)
        if self.is_host:
            return tensor
        is_single = self.dtype is not None and tensor.dtype == torch.float32
        return tensor.to(self.device, self.dtype if is_single else None)

    def take(self, tensor: torch.Tensor, dtype: str) -> Array:
        """Return a tensor as an array of the program's dtype."""
        if not self.is_host and tensor.dtype == self.dtype and dtype == "float32":
            tensor = tensor.to(torch.float32)
        # On the host this is a view; only another memory is copied.
        return to_array(tensor)


_COPYING = dict.fromkeys(("aten.view.default", "aten._unsafe_view.default"), "aten.reshape.default")

_COMPUTE_DTYPES = {"float32": None, "float16": torch.float16, "bfloat16": torch.bfloat16}


class TorchRunnable:
    """A program with its ATen overloads resolved and its slice indices precomputed."""

    def __init__(
        self, program: Program, weights: Mapping[tuple[str, Region], torch.Tensor], place: Place
    ) -> None:
        self._computes = {
            index: _Compiled(instruction, program, weights, place)
            for index, instruction in enumerate(program.instructions)
            if isinstance(instruction, Compute)
        }

    def compute(self, instruction_index: int, buffers: dict[int, Array]) -> None:
        with torch.inference_mode():
            self._computes[instruction_index].run(buffers)


class _Compiled:
    def __init__(
        self,
        instruction: Compute,
        program: Program,
        weights: Mapping[tuple[str, Region], torch.Tensor],
        place: Place,
    ) -> None:
        self._place = place
        self._inputs = instruction.inputs
        self._dtypes = {name: program.buffers[buffer].dtype for name, buffer in instruction.outputs}
        self._outputs = instruction.outputs
        made = {name: _made_region(instruction, name) for name, _ in instruction.outputs}
        #: For each output: its slices in the computed tensor, and whether it is the whole tensor.
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
            calls = [_compile_step(step, regions, weights, place) for step in kernel.steps]
            dead = [name for name, last in last_use.items() if last == index and name not in kept]
            self._kernels.append((calls, [name for name, _ in kernel.outputs], dead))
            regions.update({name: region for name, region in kernel.outputs if name})

    def run(self, buffers: dict[int, Array]) -> None:
        env: _Env = {name: self._place.bring(buffers[buffer]) for name, buffer in self._inputs}
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
            # Copy a part, since a view would keep the whole tensor in memory.
            kept = env[name] if is_all else env[name][where].clone()
            buffers[buffer] = self._place.take(kept, self._dtypes[name])


def _made_region(instruction: Compute, tensor: str) -> Region:
    for kernel in instruction.kernels:
        for name, region in kernel.outputs:
            if name == tensor:
                return region
    raise KeyError(tensor)


def _compile_step(
    step: Step,
    regions: Mapping[str, Region],
    weights: Mapping[tuple[str, Region], torch.Tensor],
    place: Place,
) -> Callable[[_Env, list[Any]], Any]:
    # A view of a channels-last map may need a copy, which `reshape` makes.
    function = overload(_COPYING.get(step.target, step.target))
    arguments = [
        ("shape" if name == "size" and step.target in _COPYING else name, value)
        for name, value in step.arguments
    ]
    getters = [(name, _getter(value, regions, weights, place)) for name, value in arguments]
    if place.device.type != "cpu" and any(a.name == "device" for a in function._schema.arguments):
        # Factory operators allocate in the host's memory unless they are given a device.
        getters = [item for item in getters if item[0] != "device"]
        getters.append(("device", lambda env, results: place.device))

    def run(env: _Env, results: list[Any]) -> Any:
        return call_overload(function, [(name, get(env, results)) for name, get in getters])

    return run


def _getter(
    value: Any,
    regions: Mapping[str, Region],
    weights: Mapping[tuple[str, Region], torch.Tensor],
    place: Place,
) -> _Getter:
    if isinstance(value, Slice):
        return _slice_getter(value, regions, weights)
    if isinstance(value, Result):
        index = value.step
        return lambda env, results: results[index]
    if isinstance(value, tuple):
        items = [_getter(item, regions, weights, place) for item in value]
        return lambda env, results: [item(env, results) for item in items]
    constant: Any = value
    if isinstance(value, Symbol):
        constant = symbol_value(value)
        if constant is torch.float32 and place.dtype is not None:
            constant = place.dtype
    elif isinstance(value, Literal):
        constant = place.bring(np.array(value.values, dtype=NUMPY_DTYPES[value.dtype]).reshape(value.shape))
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
