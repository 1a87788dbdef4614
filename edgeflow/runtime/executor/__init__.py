"""Back ends that run kernels, behind one protocol; importing this loads none of them."""

from __future__ import annotations

from edgeflow.errors import ConfigError
from edgeflow.runtime.executor.base import Executor, Runnable

__all__ = ["Executor", "Runnable", "executor_names", "get_executor"]


def executor_names() -> tuple[str, ...]:
    return ("torch",)


def get_executor(name: str = "torch", *, threads: int | None = None) -> Executor:
    """Return a back end.

    Args:
        name: One of `executor_names`.
        threads: Threads that one operator may use, in all of this process; by default left as it is set.

    Raises:
        ConfigError: If there is no such back end, or ``threads`` is not positive.
    """
    if threads is not None and threads < 1:
        raise ConfigError(f"threads must be at least 1, got {threads}")
    if name == "torch":
        from edgeflow.runtime.executor.torch_ import TorchExecutor

        return TorchExecutor(threads=threads)
    raise ConfigError(f"no executor {name!r}; known: {', '.join(executor_names())}")
