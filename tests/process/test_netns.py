"""Hosts made of network namespaces: cut off, cut off from one peer, stopped, killed, slowed. Needs root."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

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


def last_json(said: str) -> Any:
    return json.loads(said[said.index("{") :])


@pytest.mark.parametrize("transport", ["tcp", "grpc"])
def test_links_that_lose_every_packet_are_done_without_in_time(transport: str) -> None:
    """All workers answer the coordinator meanwhile, so only the links' silence tells."""
    said = last_json(run("silence", "--transport", transport))
    assert said["failed"] == said["wrong"] == 0
    for name in ("one link", "all links of one"):
        assert 1.0 < said[name]["longest_outage_s"] < 5.0, said
        assert said[name]["is_split"] and said[name]["is_used_again"], said


@pytest.mark.parametrize("transport", ["tcp", "grpc"])
def test_a_link_that_is_only_slow_is_no_loss(transport: str) -> None:
    said = last_json(run("narrow", "--transport", transport))
    assert said["wrong"] == said["replayed"] == 0 and said["used"] == 3
    assert said["seconds"] > 5.0, "the link was not slow enough to show anything"
