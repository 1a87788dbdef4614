"""A cluster's certificates, made once, and workers that ask for them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgeflow.runtime.certificates import make_authority, make_host
from edgeflow.runtime.executor import make_executor
from edgeflow.runtime.security import Access, Credentials
from edgeflow.runtime.worker import WorkerServer

TOKEN = "the-right-token-of-this-cluster"


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``here`` is 127.0.0.1 and localhost, ``elsewhere`` is another host of the same cluster."""
    folder = tmp_path_factory.mktemp("certificates")
    make_authority(folder)
    make_host(folder, "here", ["127.0.0.1", "localhost"])
    make_host(folder, "elsewhere", ["192.0.2.7"])
    return folder


@pytest.fixture(scope="session")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates of an authority of somebody else's, for the same names."""
    folder = tmp_path_factory.mktemp("strangers")
    make_authority(folder)
    make_host(folder, "here", ["127.0.0.1", "localhost"])
    return folder


@pytest.fixture(scope="session")
def access(certificates: Path) -> Access:
    return Access(Credentials.load(certificates, "here"), TOKEN)


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
