"""Split a `Compute` into a chain of segments: ONNX graphs, and kernels that the fallback must run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np

from edgeflow.errors import UnsupportedOperatorError
from edgeflow.graph.ir import NUMPY_DTYPES, Array
from edgeflow.kernels.base import Executor, Runnable, Weights
from edgeflow.kernels.onnx_.emit import KernelEmitter, Made
from edgeflow.kernels.onnx_.graph import Graph
from edgeflow.kernels.onnx_.ops import EMITTERS
from edgeflow.kernels.onnx_.values import CannotEmit, dtype_name
from edgeflow.plan.program import Buffer, Compute, Kernel, Program
from edgeflow.sharding.cut import iter_slices
from edgeflow.sharding.region import Region

logger = logging.getLogger(__name__)

#: Tensors between segments, by name.
Env = dict[str, Array]


class Held(NamedTuple):
    """Region and dtype of a tensor, known before it is computed."""

    region: Region
    dtype: str


class Segment(Protocol):
    """A part of a `Compute`."""

    def run(self, env: Env) -> None:
        """Read input tensors from ``env`` and set output tensors there."""
        ...


class Compiled(Protocol):
    """A graph, ready to run on arrays in the order of its inputs."""

    def run(self, arrays: Sequence[Array]) -> list[Array]: ...


#: Compiles a graph.
Compile = Callable[[Graph], Compiled]


@dataclass(frozen=True, slots=True)
class OnnxSegment:
    """Kernels that run as one ONNX graph."""

    compiled: Compiled
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def run(self, env: Env) -> None:
        made = self.compiled.run([env[name] for name in self.inputs])
        env.update(zip(self.outputs, made, strict=True))


@dataclass(frozen=True, slots=True)
class OtherSegment:
    """Kernels that another back end runs, as a program of one instruction."""

    runnable: Runnable
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    operators: tuple[str, ...]

    def run(self, env: Env) -> None:
        buffers = {index: env[name] for index, name in enumerate(self.inputs)}
        self.runnable.compute(0, buffers)
        env.update({name: buffers[len(self.inputs) + index] for index, name in enumerate(self.outputs)})


@dataclass(slots=True)
class Splitter:
    """Splits one `Compute`.

    Attributes:
        fallback: Runs kernels that ONNX cannot express; None if there is no such back end.
        refused: Position of each kernel that ONNX cannot express -> the reason.
    """

    instruction: Compute
    program: Program
    weights: Weights
    compile: Compile
    fallback: Executor | None
    name: str
    refused: dict[int, CannotEmit] = field(default_factory=dict)

    def segments(self) -> list[Segment]:
        """Compile every segment.

        Raises:
            UnsupportedOperatorError: If ONNX cannot express a kernel and there is no fallback.
            KeyError: If a weight slice is missing.
        """
        while True:
            try:
                return self._attempt()
            except _Refused as refusal:
                # The model was refused as a whole: compile each kernel alone to find those to blame.
                found = {
                    index: error
                    for index in refusal.positions
                    if (error := self._alone(index, refusal.held)) is not None
                }
                for index, error in (found or dict.fromkeys(refusal.positions, refusal.error)).items():
                    self._refuse(index, error)

    def _attempt(self) -> list[Segment]:
        held = {
            name: Held(self.program.buffers[buffer].region, self.program.buffers[buffer].dtype)
            for name, buffer in self.instruction.inputs
        }
        segments: list[Segment] = []
        kernels = self.instruction.kernels
        start = 0
        while start < len(kernels):
            graph = Graph()
            emitter = KernelEmitter(graph, self.weights, EMITTERS)
            inputs: dict[str, Made] = {}
            stop = start
            while stop < len(kernels) and self._emitted(stop, emitter, held, inputs):
                stop += 1
            if stop > start:
                segments.append(self._onnx(range(start, stop), emitter, held, inputs))
                start = stop
            while stop < len(kernels) and stop in self.refused:
                stop += 1
            if stop > start:
                segments.append(self._other(range(start, stop), held))
                start = stop
        return segments

    def _emitted(
        self, index: int, emitter: KernelEmitter, held: Mapping[str, Held], inputs: dict[str, Made]
    ) -> bool:
        """Add one kernel to a graph; return whether ONNX can express it."""
        if index in self.refused:
            return False
        kernel = self.instruction.kernels[index]
        for name in _read(kernel):
            if name not in emitter.made and name in held:
                value = emitter.graph.input(held[name].region.shape, held[name].dtype)
                inputs[name] = emitter.made[name] = Made(held[name].region, value)
        try:
            emitter.emit(kernel)
        except CannotEmit as error:
            self._refuse(index, error)
            return False
        return True

    def _refuse(self, index: int, error: CannotEmit) -> None:
        kernel = self.instruction.kernels[index]
        targets = ", ".join(dict.fromkeys(step.target for step in kernel.steps))
        if self.fallback is None:
            raise UnsupportedOperatorError(
                f"{self.name} cannot run {kernel.operator} ({targets}): {error}; torch, which could, is not "
                "installed here",
                operator=kernel.steps[-1].target,
            ) from error
        logger.debug("kernel.refused", extra={"operator": kernel.operator, "reason": str(error)})
        self.refused[index] = error

    def _onnx(
        self, positions: range, emitter: KernelEmitter, held: dict[str, Held], inputs: Mapping[str, Made]
    ) -> OnnxSegment:
        graph = emitter.graph
        outputs = self._leaving(positions)
        for name in outputs:
            graph.output(emitter.made[name].value)
        names = {made.value.name: name for name, made in inputs.items()}
        try:
            compiled = self.compile(graph)
        except CannotEmit as error:
            known = {name: Held(made.region, made.value.dtype) for name, made in emitter.made.items()}
            raise _Refused(error, positions, {**held, **known}) from error
        held.update(
            {name: Held(emitter.made[name].region, emitter.made[name].value.dtype) for name in outputs}
        )
        return OnnxSegment(compiled, tuple(names[value.name] for value in graph.inputs), outputs)

    def _alone(self, index: int, held: Mapping[str, Held]) -> CannotEmit | None:
        """Compile one kernel alone; return the error if it is refused."""
        kernel = self.instruction.kernels[index]
        graph = Graph()
        emitter = KernelEmitter(graph, self.weights, EMITTERS)
        for name in _read(kernel):
            if name in held:
                value = graph.input(held[name].region.shape, held[name].dtype)
                emitter.made[name] = Made(held[name].region, value)
        try:
            emitter.emit(kernel)
            for name, _ in kernel.outputs:
                if name:
                    graph.output(emitter.made[name].value)
            self.compile(graph)
        except CannotEmit as error:
            return error
        return None

    def _other(self, positions: range, held: dict[str, Held]) -> OtherSegment:
        assert self.fallback is not None
        kernels = tuple(self.instruction.kernels[index] for index in positions)
        made = {name: region for kernel in kernels for name, region in kernel.outputs if name}
        read = dict.fromkeys(name for kernel in kernels for name in _read(kernel))
        inputs = tuple(name for name in read if name not in made and name in held)
        outputs = self._leaving(positions)
        compute = Compute(
            stage=self.instruction.stage,
            kernels=kernels,
            inputs=tuple((name, index) for index, name in enumerate(inputs)),
            outputs=tuple((name, len(inputs) + index) for index, name in enumerate(outputs)),
        )
        # The outputs' dtypes are not known until the kernels run; the fallback does not need them.
        buffers = [Buffer(name, held[name].region, held[name].dtype) for name in inputs]
        buffers += [Buffer(name, made[name], "float32") for name in outputs]
        program = Program(rank=0, instructions=(compute,), buffers=tuple(buffers))
        slices = {(item.tensor, item.region) for kernel in kernels for item in iter_slices(kernel.steps)}
        weights = {key: self.weights[key] for key in slices if key[0] not in made and key[0] not in held}
        runnable = self.fallback.prepare(program, weights)
        segment = OtherSegment(runnable, inputs, outputs, tuple(kernel.operator for kernel in kernels))
        # Run once to learn the outputs' dtypes. Zeros are valid as indices and as numbers.
        env = {name: np.zeros(held[name].region.shape, NUMPY_DTYPES[held[name].dtype]) for name in inputs}
        segment.run(env)
        held.update({name: Held(made[name], dtype_name(env[name].dtype)) for name in outputs})
        return segment

    def _leaving(self, positions: range) -> tuple[str, ...]:
        """Return the tensors made at these positions that are read later."""
        kernels = self.instruction.kernels
        later = {name for kernel in kernels[positions.stop :] for name in _read(kernel)}
        later |= {name for name, _ in self.instruction.outputs}
        made = [name for index in positions for name, _ in kernels[index].outputs if name]
        return tuple(name for name in dict.fromkeys(made) if name in later)


class _Refused(Exception):
    """The back end refused a segment's model as a whole."""

    def __init__(self, error: CannotEmit, positions: range, held: Mapping[str, Held]) -> None:
        super().__init__(str(error))
        self.error = error
        self.positions = positions
        self.held = held


def _read(kernel: Kernel) -> Iterable[str]:
    return dict.fromkeys(item.tensor for item in iter_slices(kernel.steps))
