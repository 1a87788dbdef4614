"""A program whose kernels are ONNX graphs, for any back end that runs ONNX."""

from __future__ import annotations

from collections.abc import Mapping

from edgeflow.graph.ir import Array
from edgeflow.kernels.base import Executor, Weights
from edgeflow.kernels.onnx_.segments import (
    Compile,
    Compiled,
    Env,
    OnnxSegment,
    OtherSegment,
    Segment,
    Splitter,
)
from edgeflow.plan.program import Compute, Program


def prepare(
    program: Program, weights: Weights, compile: Compile, *, fallback: Executor | None, name: str
) -> OnnxRunnable:
    """Compile every `Compute` of a program.

    Args:
        fallback: Runs kernels that ONNX cannot express; None refuses programs with such a kernel.
        name: Name of the back end, for messages.

    Raises:
        UnsupportedOperatorError: If ONNX cannot express a kernel and there is no fallback.
        KeyError: If a weight slice is missing.
    """
    return OnnxRunnable(
        {
            index: _Compiled(
                instruction,
                program,
                Splitter(instruction, program, weights, compile, fallback, name).segments(),
            )
            for index, instruction in enumerate(program.instructions)
            if isinstance(instruction, Compute)
        }
    )


class OnnxRunnable:
    """A program compiled to segments."""

    def __init__(self, computes: Mapping[int, _Compiled]) -> None:
        self._computes = computes

    def compute(self, instruction_index: int, buffers: dict[int, Array]) -> None:
        self._computes[instruction_index].run(buffers)

    @property
    def models(self) -> tuple[Compiled, ...]:
        """Return the models that it runs; equal kernels on equal weights may share one."""
        return tuple(model for compiled in self._computes.values() for model in compiled.models)

    @property
    def other_operators(self) -> tuple[str, ...]:
        """Return the names of the operators that the fallback runs."""
        return tuple(name for compiled in self._computes.values() for name in compiled.other_operators)


class _Compiled:
    def __init__(self, instruction: Compute, program: Program, segments: list[Segment]) -> None:
        self._inputs = instruction.inputs
        self._segments = segments
        self._instruction = instruction
        made = {name: region for kernel in instruction.kernels for name, region in kernel.outputs if name}
        #: For each output: its slices in the computed tensor, or None if it is the whole tensor.
        self._kept = [
            (name, buffer, None if region == made[name] else region.slices(made[name]))
            for name, buffer in instruction.outputs
            for region in (program.buffers[buffer].region,)
        ]

    @property
    def models(self) -> tuple[Compiled, ...]:
        return tuple(item.compiled for item in self._segments if isinstance(item, OnnxSegment))

    @property
    def other_operators(self) -> tuple[str, ...]:
        runs = [segment for segment in self._segments if isinstance(segment, OtherSegment)]
        return tuple(name for segment in runs for name in segment.operators)

    def run(self, buffers: dict[int, Array]) -> None:
        env: Env = {name: buffers[buffer] for name, buffer in self._inputs}
        for segment in self._segments:
            segment.run(env)
        for name, buffer, where in self._kept:
            # Copy a part, since a view would keep the whole tensor in memory.
            buffers[buffer] = env[name] if where is None else env[name][where].copy()
