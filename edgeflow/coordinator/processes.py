"""Worker processes on this machine, started for one deployment and ended with it: a `Launcher`."""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import IO, Final

from edgeflow.errors import WorkerUnreachableError
from edgeflow.net.security import TOKEN_VARIABLE, VARIABLES

logger = logging.getLogger(__name__)

#: Until all workers listen: loading a back end takes seconds, and several do it at once.
START_TIMEOUT_S: Final = 60.0

#: After SIGTERM, until SIGKILL.
_TERMINATE_GRACE_S: Final = 5.0

#: How much of a failed worker's last words are shown.
_TAIL_BYTES: Final = 2000

_PREFIX: Final = "listening "


class _Process:
    """One worker process; its standard input stays open as long as this process lives."""

    def __init__(self, arguments: list[str], environment: Mapping[str, str]) -> None:
        self.stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # closed by stop
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "edgeflow.worker", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.stderr,
            env=dict(environment),
            # Ctrl-C in a terminal reaches this process alone, which then ends its workers in order.
            start_new_session=True,
        )

    def address(self, deadline_s: float) -> str:
        """Wait for the line that says where the worker listens."""
        assert self.popen.stdout is not None
        line = b""
        with selectors.DefaultSelector() as selector:
            selector.register(self.popen.stdout, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                if not selector.select(max(0.0, deadline_s - time.monotonic())):
                    raise WorkerUnreachableError(
                        f"a local worker did not come up in {START_TIMEOUT_S:.1f} s: {self.last_words()}"
                    )
                data = os.read(self.popen.stdout.fileno(), 4096)
                if not data:
                    status = self.popen.wait()
                    raise WorkerUnreachableError(
                        f"a local worker ended with status {status} while it came up: {self.last_words()}"
                    )
                line += data
        text = line.decode(errors="replace").strip()
        if not text.startswith(_PREFIX):
            raise WorkerUnreachableError(f"a local worker said {text!r}, not where it listens")
        return text.removeprefix(_PREFIX)

    def last_words(self) -> str:
        size = self.stderr.seek(0, os.SEEK_END)
        self.stderr.seek(max(0, size - _TAIL_BYTES))
        return self.stderr.read().decode(errors="replace").strip() or "it said nothing"

    def terminate(self) -> None:
        with contextlib.suppress(OSError):
            assert self.popen.stdin is not None
            self.popen.stdin.close()
        self.popen.terminate()

    def stop(self, deadline_s: float) -> None:
        try:
            self.popen.wait(max(0.0, deadline_s - time.monotonic()))
        except subprocess.TimeoutExpired:
            logger.warning("worker.killed", extra={"pid": self.popen.pid})
            self.popen.kill()
            self.popen.wait()
        assert self.popen.stdout is not None
        self.popen.stdout.close()
        self.stderr.close()


class LocalWorkers:
    """Worker processes, one per rank.

    They end when `close` is called, and when this process dies, however it dies: their standard input is a
    pipe that then ends.

    Args:
        speeds: Rank -> relative speed to emulate; at most 1.
        threads: Threads that compute, per process.
        executor: Name of the back end.
        memory_bytes: Rank -> limit of its weights and buffers; by default half of the machine's memory.
        token: Join token that they ask for. It goes by the environment, which only their owner can read.

    Raises:
        WorkerUnreachableError: If one does not come up; none is left then.
    """

    def __init__(
        self,
        speeds: Mapping[int, float],
        *,
        threads: int,
        executor: str,
        memory_bytes: Mapping[int, int] = MappingProxyType({}),
        token: str | None = None,
    ) -> None:
        self._processes: dict[int, _Process] = {}
        self._environment = _environment(threads, token)
        self._arguments = {
            rank: [
                "--bind=127.0.0.1:0",
                f"--threads={threads}",
                f"--speed={speed!r}",
                f"--executor={executor}",
                "--watch-stdin",
                *([f"--memory-limit-bytes={memory_bytes[rank]}"] if rank in memory_bytes else []),
            ]
            for rank, speed in sorted(speeds.items())
        }
        self._lock = threading.Lock()
        started_s = time.monotonic()
        try:
            for rank, arguments in self._arguments.items():
                self._processes[rank] = _Process(arguments, self._environment)
            self.addresses = {
                rank: process.address(started_s + START_TIMEOUT_S)
                for rank, process in self._processes.items()
            }
        except BaseException:
            self.close()
            raise

    def restart(self, rank: int) -> str | None:
        """Start a process anew that has ended; return its address, or None if it has not ended.

        Raises:
            WorkerUnreachableError: If it does not come up.
        """
        with self._lock:
            ended = self._processes.get(rank)
            if ended is None or ended.popen.poll() is None:
                return None
            ended.terminate()  # it has ended; this closes the pipe to it
            ended.stop(time.monotonic())
            process = self._processes[rank] = _Process(self._arguments[rank], self._environment)
        address = process.address(time.monotonic() + START_TIMEOUT_S)
        self.addresses[rank] = address
        return address

    @property
    def pids(self) -> dict[int, int]:
        """Rank -> process id."""
        return {rank: process.popen.pid for rank, process in self._processes.items()}

    def close(self) -> None:
        """End every process: SIGTERM, then SIGKILL; may be called twice."""
        with self._lock:
            processes, self._processes = self._processes, {}
        for process in processes.values():
            process.terminate()
        deadline_s = time.monotonic() + _TERMINATE_GRACE_S
        for process in processes.values():
            process.stop(deadline_s)


class LocalLauncher:
    """`LocalWorkers` by the names of devices.

    Args:
        names: Rank -> name of its device.
    """

    def __init__(self, workers: LocalWorkers, names: Mapping[int, str]) -> None:
        self._workers = workers
        self._ranks = {name: rank for rank, name in names.items()}

    @property
    def addresses(self) -> Mapping[str, str]:
        return {name: self._workers.addresses[rank] for name, rank in self._ranks.items()}

    @property
    def pids(self) -> Mapping[int, int]:
        return self._workers.pids

    def replace(self, device: str) -> str | None:
        rank = self._ranks.get(device)
        return None if rank is None else self._workers.restart(rank)

    def close(self) -> None:
        self._workers.close()


def _environment(threads: int, token: str | None) -> dict[str, str]:
    """Return the environment of a worker: ours, its number of threads, and the edgeflow that runs here."""
    count = str(threads)
    source = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, (source, os.environ.get("PYTHONPATH"))))
    # The certificates and the token that we show to others are not those that these workers ask for.
    inherited = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    return {
        **inherited,
        **({} if token is None else {TOKEN_VARIABLE: token}),
        "OMP_NUM_THREADS": count,
        "MKL_NUM_THREADS": count,
        "OPENBLAS_NUM_THREADS": count,
        "PYTHONPATH": path,
    }
