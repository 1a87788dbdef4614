"""The fast back end: a `Compute` becomes ONNX graphs, written directly from its kernels, that onnxruntime runs.

Nothing here needs torch. Where it is installed, it runs the kernels that ONNX has no exact words for; where
it is not, a program with such a kernel is refused when it is prepared.
"""

from __future__ import annotations

from collections.abc import Mapping

from edgeflow.graph.ir import Array
from edgeflow.plan.program import Compute, Program
from edgeflow.runtime.executor.base import Executor, Hashes, Weights
from edgeflow.runtime.executor.onnx_.graph import Graph
from edgeflow.runtime.executor.onnx_.segments import Env, OtherSegment, Segment, Splitter
from edgeflow.runtime.executor.onnx_.session import Session, SessionCache


class OnnxRuntimeExecutor:
    """Runs kernels with onnxruntime on the CPU.

    Args:
        threads: That one operator may use; None leaves it to onnxruntime, which takes all cores.
        fallback: Runs kernels that ONNX has no words for; None if a program with one is to be refused.
    """

    def __init__(self, *, threads: int | None = None, fallback: Executor | None = None) -> None:
        self._cache = SessionCache(threads=threads)
        self._fallback = fallback

    @property
    def name(self) -> str:
        return "onnxruntime"

    def prepare(self, program: Program, weights: Weights, hashes: Hashes | None = None) -> OnnxRunnable:
        computes = {}
        for index, instruction in enumerate(program.instructions):
            if isinstance(instruction, Compute):
                compiler = _Compiler(self._cache, weights, hashes)
                splitter = Splitter(
                    instruction, program, weights, compiler.compile, self._fallback, self.name
                )
                computes[index] = _Compiled(instruction, program, splitter.segments())
        return OnnxRunnable(computes)


class OnnxRunnable:
    """A program whose kernels are sessions."""

    def __init__(self, computes: Mapping[int, _Compiled]) -> None:
        self._computes = computes

    def compute(self, instruction_index: int, buffers: dict[int, Array]) -> None:
        self._computes[instruction_index].run(buffers)

    @property
    def other_operators(self) -> tuple[str, ...]:
        """Names of the operators that another back end runs."""
        return tuple(name for compiled in self._computes.values() for name in compiled.other_operators)


class _Compiler:
    """Makes sessions; weights that have a hash are named by it to the cache."""

    def __init__(self, cache: SessionCache, weights: Weights, hashes: Hashes | None) -> None:
        self._cache = cache
        self._by_identity = (
            None if hashes is None else {id(weights[key]): value for key, value in hashes.items()}
        )

    def compile(self, graph: Graph) -> Session:
        if self._by_identity is None:
            return self._cache.get(graph, None)
        hashes = {name: self._by_identity[id(array)] for name, array in graph.weights.items()}
        return self._cache.get(graph, hashes)


class _Compiled:
    def __init__(self, instruction: Compute, program: Program, segments: list[Segment]) -> None:
        self._inputs = instruction.inputs
        self._segments = segments
        self._instruction = instruction
        made = {name: region for kernel in instruction.kernels for name, region in kernel.outputs if name}
        #: Of each result: where it is in what is made, or None if it is all of that.
        self._kept = [
            (name, buffer, None if region == made[name] else region.slices(made[name]))
            for name, buffer in instruction.outputs
            for region in (program.buffers[buffer].region,)
        ]

    @property
    def other_operators(self) -> tuple[str, ...]:
        runs = [segment for segment in self._segments if isinstance(segment, OtherSegment)]
        return tuple(name for segment in runs for name in segment.operators)

    def run(self, buffers: dict[int, Array]) -> None:
        env: Env = {name: buffers[buffer] for name, buffer in self._inputs}
        for segment in self._segments:
            segment.run(env)
        for name, buffer, where in self._kept:
            # A part is copied, so that the rest does not stay in memory with it.
            buffers[buffer] = env[name] if where is None else env[name][where].copy()

