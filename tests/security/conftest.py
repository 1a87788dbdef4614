"""Workers that ask for certificates and a token."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgeflow.kernels import make_executor
from edgeflow.net.security import Access
from edgeflow.worker import WorkerServer


class Guarded:
    """Starts worker servers."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.servers: list[WorkerServer] = []

    def start(self, access: Access | None, **options: Any) -> str:
        cache_dir = self._folder / f"cache{len(self.servers)}"
        fields = {"executor": make_executor("torch"), "cache_dir": cache_dir, "memory_limit_bytes": 10**8}
        server = WorkerServer("127.0.0.1:0", access=access, **{**fields, **options})
        self.servers.append(server)
        return server.address


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Guarded]:
    made = Guarded(tmp_path)
    yield made
    for server in made.servers:
        server.stop()
