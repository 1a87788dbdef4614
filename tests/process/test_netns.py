"""Hosts made of network namespaces: cut off, cut off from one peer, stopped, killed, slowed. Needs root."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import edgeflow as ef
from edgeflow.testing.netns import missing

ROOT = Path(ef.__file__).resolve().parents[1]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing()), reason=f"no cluster of namespaces here: {missing()}"),
]


def run(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "netns.py"), *arguments],
        capture_output=True,
        text=True,
        timeout=200,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_nothing_is_lost_or_wrong_whatever_fails() -> None:
    """The soak, short; `make soak` is the long one. It compares every answer with the module's."""
    said = run("soak", "--requests", "300", "--seed", "5")
    assert '"lost": 0' in said and '"wrong": 0' in said
