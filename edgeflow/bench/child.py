"""A process of a row: pinned to cores, it receives commands over a pipe and times their execution itself."""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
import time
import warnings
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any, Final

from edgeflow.bench.subject import Job
from edgeflow.errors import ConfigError

_SYSTEMS: Final = {
    "torch": ("single", "Torch"),
    "onnxruntime": ("single", "OnnxRuntime"),
    "edgeflow": ("ours", "Edgeflow"),
    "megatron": ("gloo", "Megatron"),
    "dtensor": ("gloo", "DTensor"),
    "pipelining": ("gloo", "Pipelining"),
    "ray": ("ray_", "Ray"),
}

#: Time limit to start and to answer: onnxruntime compiles and gloo waits for its peers meanwhile.
_TIMEOUT_S: Final = 240.0


class Child:
    """All processes of one row."""

    def __init__(self, job: Job) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipes: list[Connection] = []
        self._processes: list[Any] = []
        for rank in range(job.row.processes):
            mine, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, job, rank), daemon=False)
            process.start()
            theirs.close()
            self._pipes.append(mine)
            self._processes.append(process)
        try:
            #: The last process's answer to the first request.
            self.answer = [self._hear(pipe) for pipe in self._pipes][-1]
        except BaseException:
            self.close()
            raise

    def latency_s(self) -> float:
        return float(max(self._ask("latency")))

    def stream_s(self) -> float:
        return float(max(self._ask("stream")))

    def explain(self) -> Any:
        return self._ask("explain")[0]

    def close(self) -> None:
        """End the processes; may be called twice."""
        for pipe in self._pipes:
            with contextlib.suppress(OSError):
                pipe.send("close")
        for process in self._processes:
            process.join(15)
            if process.is_alive():
                process.terminate()
                process.join(5)
            if process.is_alive():
                process.kill()
                process.join()
        for pipe in self._pipes:
            pipe.close()

    def _ask(self, what: str) -> list[Any]:
        for pipe in self._pipes:
            pipe.send(what)
        return [self._hear(pipe) for pipe in self._pipes]

    def _hear(self, pipe: Connection) -> Any:
        if not pipe.poll(_TIMEOUT_S):
            raise ConfigError(f"no answer within {_TIMEOUT_S:.0f} s")
        try:
            word, value = pipe.recv()
        except EOFError:
            raise ConfigError("its process ended") from None
        if word == "failed":
            raise ConfigError(value)
        return value


def _serve(pipe: Connection, job: Job, rank: int) -> None:
    warnings.simplefilter("ignore")
    try:
        _do(pipe, job, rank)
    except EOFError:
        pass  # whoever asked is gone
    except BaseException as error:
        text = " ".join(str(error).split())[:300]
        with contextlib.suppress(OSError):
            pipe.send(
                ("failed", text if isinstance(error, ConfigError) else f"{type(error).__name__}: {text}")
            )


def _do(pipe: Connection, job: Job, rank: int) -> None:
    os.sched_setaffinity(0, _cores(job, rank))
    import torch

    from edgeflow.graph.compare import leaves

    torch.set_num_threads(job.row.threads)
    module, name = _SYSTEMS[job.row.kind]
    system = getattr(importlib.import_module(f"edgeflow.bench.{module}"), name)(job, rank)
    meet = getattr(system, "wait_for_all", lambda: None)
    try:
        pipe.send(("ready", list(leaves(_plain(system.request())))))
        system.stream(job.stream)
        while (what := pipe.recv()) != "close":
            if what == "explain":
                pipe.send(("done", system.explain() if hasattr(system, "explain") else ()))
                continue
            meet()
            start = time.perf_counter()
            if what == "latency":
                system.request()
            else:
                system.stream(job.stream)
            taken = time.perf_counter() - start
            pipe.send(("done", taken if what == "latency" else taken / job.stream))
    finally:
        system.close()


def _cores(job: Job, rank: int) -> Sequence[int]:
    """Return the cores of a process: one per process; a client of workers may use any core of theirs."""
    if job.row.kind in ("edgeflow", "ray"):
        return sorted(set(job.cores))
    if job.row.processes > 1:
        return [job.cores[rank]]
    return job.cores[: job.row.threads]


def _plain(value: Any) -> Any:
    """Return distributed tensors as ordinary ones."""
    if hasattr(value, "full_tensor"):
        return value.full_tensor()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value
