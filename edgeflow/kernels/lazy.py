"""torch as the fallback back end, imported only when a kernel needs it; few programs do."""

from __future__ import annotations

from functools import cached_property

from edgeflow.kernels.base import Executor, Hashes, Runnable, Weights
from edgeflow.plan.program import Program


class LazyTorch:
    """A `TorchExecutor` created on first use: importing torch takes seconds and a quarter of a gigabyte."""

    def __init__(self, *, threads: int | None = None) -> None:
        self._threads = threads

    @property
    def name(self) -> str:
        return "torch"

    @cached_property
    def _executor(self) -> Executor:
        from edgeflow.kernels.torch_ import TorchExecutor

        return TorchExecutor(threads=self._threads)

    def prepare(self, program: Program, weights: Weights, hashes: Hashes | None = None) -> Runnable:
        return self._executor.prepare(program, weights, hashes)
