"""The environment of a benchmark's result: machine, time, versions and settings."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """The machine and the versions."""

    processor: str
    num_cores: int
    python: str
    torch: str
    commit: str


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """One measurement.

    Attributes:
        benchmark: Name of the file, without ``bench_``.
        case: What was measured, for example the model and the strategy.
        values: Numbers by name; the unit is in the name.
        settings: What they depend on.
        seed: Of everything random.
    """

    benchmark: str
    case: str
    values: dict[str, float]
    settings: dict[str, Any]
    seed: int


def environment() -> Environment:
    return Environment(
        processor=_processor(),
        num_cores=os.cpu_count() or 0,
        python=platform.python_version(),
        torch=metadata.version("torch"),
        commit=_commit(),
    )


def median_s(call: Callable[[], object], *, repeats: int) -> float:
    """Return the median duration of ``call`` after one call that does not count."""
    call()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _commit() -> str:
    """Return the commit, with a plus where files differ from it; empty outside a repository."""
    try:
        git = ["git", "-C", str(Path(__file__).parent)]
        commit = subprocess.run(
            [*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
        )
        changes = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return commit.stdout.strip() + ("+" if changes.stdout.strip() else "")
