"""torch as the back end of last resort: loaded when the first kernel needs it, which few programs do."""

from __future__ import annotations

from functools import cached_property

from edgeflow.plan.program import Program
from edgeflow.runtime.executor.base import Executor, Hashes, Runnable, Weights


class LazyTorch:
    """`TorchExecutor`, made on first use: importing torch takes seconds and a quarter of a gigabyte."""

    def __init__(self, *, threads: int | None = None) -> None:
        self._threads = threads

    @property
    def name(self) -> str:
        return "torch"

    @cached_property
    def _executor(self) -> Executor:
        from edgeflow.runtime.executor.torch_ import TorchExecutor

        return TorchExecutor(threads=self._threads)

    def prepare(self, program: Program, weights: Weights, hashes: Hashes | None = None) -> Runnable:
        return self._executor.prepare(program, weights, hashes)
