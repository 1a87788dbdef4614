"""The machine: pin processes to cores, and describe the environment of a result."""

from __future__ import annotations

import contextlib
import datetime
import os
import platform
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from edgeflow.errors import ConfigError
from edgeflow.measure.host import processor_name
from edgeflow.versions import installed_version


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """Where and when; ``load`` is the machine's average of one minute before anything ran."""

    processor: str
    num_cores: int
    load: float
    system: str
    python: str
    torch: str
    onnxruntime: str
    commit: str
    date: str


def environment() -> Environment:
    return Environment(
        processor=processor_name(),
        num_cores=len(cores()),
        load=os.getloadavg()[0],
        system=platform.platform(),
        python=platform.python_version(),
        torch=installed_version("torch"),
        onnxruntime=installed_version("onnxruntime"),
        commit=_commit(),
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )


def cores() -> tuple[int, ...]:
    """Return the numbers of the cores that this process may use."""
    return tuple(sorted(os.sched_getaffinity(0)))


def place(speeds: Sequence[float], available: Sequence[int]) -> tuple[int, ...]:
    """Return a core for each device, such that the speeds on each core add up to at most 1.

    A device of speed 0.5 computes at most half of the time, so two of them fit one core.

    Raises:
        ConfigError: If the cores do not suffice.

    Examples:
        >>> place([1, 0.5, 0.25], [0, 1])
        (0, 1, 1)
    """
    room = dict.fromkeys(available, 1.0)
    chosen = []
    for speed in speeds:
        core = next((core for core, left in room.items() if left >= speed - 1e-9), None)
        if core is None:
            raise ConfigError(f"devices of speeds {tuple(speeds)} need more than the {len(room)} cores here")
        room[core] -= speed
        chosen.append(core)
    return tuple(chosen)


def pin(pid: int, on: Sequence[int]) -> None:
    """Restrict all threads of a process, and those that they start, to these cores."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(ProcessLookupError):  # a thread that has just ended
            os.sched_setaffinity(int(task.name), on)


@contextlib.contextmanager
def pinned(on: Sequence[int]) -> Iterator[None]:
    """Restrict the calling thread, and the threads that it starts meanwhile, to these cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, on)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _commit() -> str:
    """Return the commit of the sources, with a plus if files differ from it; empty outside a repository."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        commit, changes = (
            subprocess.run([*git, *what], capture_output=True, text=True, check=True).stdout.strip()
            for what in (("rev-parse", "--short", "HEAD"), ("status", "--porcelain"))
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return commit + ("+" if changes else "")
