"""The fast back end: onnxruntime, on ONNX graphs that are written directly from a `Compute`'s kernels.

Nothing here needs torch. If torch is installed, it runs the kernels that ONNX cannot express exactly;
otherwise a program with such a kernel is refused when it is prepared.
"""

from __future__ import annotations

from edgeflow.kernels.base import Executor, Hashes, Weights
from edgeflow.kernels.onnx_.graph import Graph
from edgeflow.kernels.onnx_.runnable import OnnxRunnable, prepare
from edgeflow.kernels.onnx_.session import Session, SessionCache
from edgeflow.plan.program import Program


class OnnxRuntimeExecutor:
    """Runs kernels with onnxruntime on the CPU.

    Args:
        threads: Number of threads that one operator may use; None: onnxruntime's default, all cores.
        fallback: Runs kernels that ONNX cannot express; None refuses programs with such a kernel.
    """

    def __init__(self, *, threads: int | None = None, fallback: Executor | None = None) -> None:
        self._cache = SessionCache(threads=threads)
        self._fallback = fallback

    @property
    def name(self) -> str:
        return "onnxruntime"

    def prepare(self, program: Program, weights: Weights, hashes: Hashes | None = None) -> OnnxRunnable:
        compiler = _Compiler(self._cache, weights, hashes)
        return prepare(program, weights, compiler.compile, fallback=self._fallback, name=self.name)


class _Compiler:
    """Creates sessions; passes the hashes of weights to the cache, if they are known."""

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
