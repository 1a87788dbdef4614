"""Back ends that run kernels, behind one protocol; importing this loads none of them."""

from __future__ import annotations

import importlib.util
from typing import Final

from edgeflow.errors import ConfigError
from edgeflow.kernels.base import Executor, Hashes, Runnable

__all__ = [
    "AUTO",
    "Executor",
    "Hashes",
    "Runnable",
    "available_executors",
    "check_executor",
    "executor_names",
    "make_executor",
    "resolve_executor",
]

#: Selects the preferred back end among those installed.
AUTO: Final = "auto"

#: Back end -> packages that it needs, in the order in which `AUTO` prefers them.
_PACKAGES: Final = {
    "onnxruntime": ("onnx", "onnxruntime"),
    "torch": ("torch",),
    "openvino": ("onnx", "openvino"),
}


def executor_names() -> tuple[str, ...]:
    return (AUTO, *_PACKAGES)


def available_executors() -> tuple[str, ...]:
    """Return the names of the installed back ends, in order of preference."""
    return tuple(name for name, packages in _PACKAGES.items() if all(map(_is_installed, packages)))


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ValueError:  # sys.modules maps the name to None
        return False


def check_executor(name: str) -> None:
    """Raise `ConfigError` if there is no back end of this name."""
    if name not in executor_names():
        raise ConfigError(f"no executor {name!r}; known: {', '.join(executor_names())}")


def resolve_executor(name: str) -> str:
    """Return the back end that `AUTO` selects here; return any other name unchanged.

    Raises:
        ConfigError: If there is no such back end, or its packages are not installed.
    """
    check_executor(name)
    available = available_executors()
    if name == AUTO:
        if not available:
            raise ConfigError("no back end is installed; install onnx and onnxruntime, or torch")
        return available[0]
    if name not in available:
        missing = [package for package in _PACKAGES[name] if not _is_installed(package)]
        raise ConfigError(f"executor {name!r} needs {' and '.join(missing)}, not installed here")
    return name


def make_executor(
    name: str = AUTO, *, threads: int | None = None, device: str = "cpu", dtype: str | None = None
) -> Executor:
    """Return the back end called ``name``, ready to prepare programs.

    Args:
        name: One of `executor_names`.
        threads: Number of threads that one operator may use. With torch it applies to the whole process. None
            keeps the back end's setting.
        device: Torch device that computes (``cuda``, ``cuda:1``); only torch supports any but ``cpu``.
        dtype: Float dtype to compute in instead of float32: ``float16`` or ``bfloat16``, which round the
            answer accordingly. Only torch supports it.

    Raises:
        ConfigError: If the back end is unknown or not installed, or does not support an option.
    """
    if threads is not None and threads < 1:
        raise ConfigError(f"threads must be at least 1, got {threads}")
    if name == AUTO and (device != "cpu" or dtype is not None):
        name = "torch"
    chosen = resolve_executor(name)
    if chosen == "torch":
        from edgeflow.kernels.torch_ import TorchExecutor

        return TorchExecutor(threads=threads, device=device, dtype=dtype)
    if device != "cpu" or dtype is not None:
        raise ConfigError(f"executor {chosen!r} computes on the cpu, in the dtypes of the model")
    fallback = None
    if _is_installed("torch"):
        from edgeflow.kernels.lazy import LazyTorch

        fallback = LazyTorch(threads=threads)
    if chosen == "openvino":
        from edgeflow.kernels.openvino_ import OpenVinoExecutor

        return OpenVinoExecutor(threads=threads, fallback=fallback)
    from edgeflow.kernels.onnxruntime_ import OnnxRuntimeExecutor

    return OnnxRuntimeExecutor(threads=threads, fallback=fallback)
