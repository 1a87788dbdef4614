"""Fixtures of the tests that start real processes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights of tests stay out of the user's cache."""
    monkeypatch.setenv("EDGEFLOW_CACHE_DIR", str(tmp_path / "weights"))


@pytest.fixture(autouse=True)
def _no_process_is_left(_own_cache: None) -> Iterator[None]:
    """Whoever starts a process ends it, also when things go wrong."""
    before = set(_children())
    yield
    deadline_s = time.monotonic() + 5.0
    while (left := set(_children()) - before) and time.monotonic() < deadline_s:
        time.sleep(0.05)
    names = [" ".join(process.cmdline()) for process in left]
    for process in left:
        process.kill()
    assert not names, f"processes left: {names}"


def _children() -> list[psutil.Process]:
    found: list[psutil.Process] = psutil.Process().children(recursive=True)
    return found
