"""What a worker tells the C library, in a process of its own: it holds for the whole process."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from edgeflow.worker import malloc

#: Free an array of 24 MiB, take and free it again; say what was told and what is still resident.
SCRIPT = """
import resource, numpy as np
from edgeflow.worker.malloc import return_large_arrays

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()

told = return_large_arrays()
before = resident()
for _ in range(3):
    # Freed in another order than taken, so that the end of the heap is in use.
    arrays = [np.ones(24 << 20, np.uint8) for _ in range(4)]
    kept = np.ones(1 << 16, np.uint8)
    del arrays
print(told, resident() - before)
"""


def freed(**variables: str) -> tuple[str, int]:
    environment = {name: text for name, text in os.environ.items() if name not in malloc._VARIABLES}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=environment | variables,
        capture_output=True,
        text=True,
        check=True,
    )
    told, left = done.stdout.split()
    return told, int(left)


@pytest.mark.skipif(not malloc._is_glibc(), reason="another C library")
def test_large_arrays_go_back_to_the_system() -> None:
    told, left = freed()
    assert told == "True"
    assert left < 8 << 20
    # What was set by hand stays: here so that everything is kept.
    told, left = freed(MALLOC_MMAP_THRESHOLD_=str(32 << 20), MALLOC_TRIM_THRESHOLD_=str(1 << 30))
    assert told == "False"
    assert left >= 64 << 20


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "confstr", lambda name: None)
    assert malloc.return_large_arrays() is False
