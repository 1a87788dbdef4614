"""A stream of requests: each is counted once, as answered, failed or changed, and it ends in time."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgeflow.cli.stream import stream


def session(*decisions: Any) -> Any:
    devices = [SimpleNamespace(name="fast"), SimpleNamespace(name="slow")]
    plan = SimpleNamespace(cluster=SimpleNamespace(devices=devices), devices=(0, 1))
    return SimpleNamespace(plan=plan, decisions=decisions)


def test_each_request_is_counted_once(capsys: pytest.CaptureFixture[str]) -> None:
    made = [np.ones(2), np.ones(2), None, np.full(2, 1.1), np.ones(2) + 1e-6]
    calls = 0

    def request() -> Any:
        nonlocal calls
        calls += 1
        time.sleep(0.02)
        found = made[calls - 1] if calls <= len(made) else np.ones(2)
        if found is None:
            raise RuntimeError("it broke")
        return found

    started_s = time.monotonic()
    seen = stream(session(), request, seconds=0.3)

    assert time.monotonic() - started_s < 2.0
    assert (seen.failed, seen.changed) == (1, 1)
    assert seen.answered == calls - 1
    assert "failed: it broke" in capsys.readouterr().out


def test_each_second_and_each_switch_has_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    switch = SimpleNamespace(verdict="switch", explain=lambda: "because of a gain")
    kept = SimpleNamespace(verdict="keep", explain=lambda: "nothing to gain")

    stream(session(kept, switch), lambda: time.sleep(0.05) or np.zeros(1), seconds=1.2)

    said = capsys.readouterr().out
    assert said.count("because of a gain") == 1
    assert "nothing to gain" not in said
    assert "answers, median" in said and "on fast, slow" in said
