"""Fixtures of the tests that run several ranks in one process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import edgeflow as ef
from edgeflow.graph.ir import Array, ModelGraph
from edgeflow.kernels import Executor, Runnable, make_executor
from edgeflow.plan.program import Program
from edgeflow.worker import WorkerServer


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    """Whoever starts a thread ends it: what is left after a test would act in the next one."""
    before = set(threading.enumerate())
    yield
    deadline_s = time.monotonic() + 5.0
    while (left := [t for t in threading.enumerate() if t not in before and not _is_foreign(t)]) and (
        time.monotonic() < deadline_s
    ):
        time.sleep(0.01)
    assert not left, f"threads left: {[t.name for t in left]}"


def _is_foreign(thread: threading.Thread) -> bool:
    """Libraries keep some threads of their own to the end of the process."""
    return any(name in thread.name.lower() for name in ("_channel_spin", "grpc", "tqdm"))


@pytest.fixture(scope="module")
def module() -> Any:
    """A network of a few layers, for pictures of `tests.images`."""
    from edgeflow.testing import models

    return models.tiny_resnet()


@pytest.fixture(scope="module")
def graph(module: Any) -> ModelGraph:
    import torch

    return ef.capture(module, (torch.zeros(1, 3, 32, 32),))


class Hooked:
    """The torch executor, with a function that is called before every kernel."""

    name = "torch"

    def __init__(self) -> None:
        self.inner: Executor = make_executor("torch")
        self.before_prepare: Callable[[Program], None] = lambda program: None
        self.before_compute: Callable[[], None] = lambda: None

    def prepare(self, program: Program, weights: Mapping[Any, Array], hashes: object = None) -> Runnable:
        self.before_prepare(program)
        return _HookedRunnable(self, self.inner.prepare(program, weights))


class _HookedRunnable:
    def __init__(self, hooks: Hooked, inner: Runnable) -> None:
        self._hooks = hooks
        self._inner = inner

    def compute(self, instruction_index: int, buffers: dict[int, Array]) -> None:
        self._hooks.before_compute()
        self._inner.compute(instruction_index, buffers)


class Workers:
    """Worker servers in this process, on free ports."""

    def __init__(self, folder: Path) -> None:
        self.servers: list[WorkerServer] = []
        self.hooks: list[Hooked] = []
        self._folder = folder

    def start(self, count: int, **options: Any) -> list[str]:
        """Start workers, each with a cache of its own; return their addresses."""
        for _ in range(count):
            hooks = Hooked()
            cache_dir = self._folder / f"cache{len(self.servers)}"
            server = WorkerServer("127.0.0.1:0", executor=hooks, **{"cache_dir": cache_dir, **options})
            self.servers.append(server)
            self.hooks.append(hooks)
        return [server.address for server in self.servers[-count:]]

    @property
    def held_epochs(self) -> int:
        return sum(len(server.worker.status()) for server in self.servers)

    def wait_until_free(self) -> None:
        """Releasing is not waited for by the coordinator; here it is."""
        deadline_s = time.monotonic() + 5.0
        while self.held_epochs and time.monotonic() < deadline_s:
            time.sleep(0.005)
        assert self.held_epochs == 0, [server.worker.status() for server in self.servers]


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[Workers]:
    """Workers that must hold nothing at the end of the test."""
    made = Workers(tmp_path)
    yield made
    try:
        made.wait_until_free()
    finally:
        for server in made.servers:
            server.stop()
