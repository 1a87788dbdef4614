"""``edgeflow bench --quick``, as people start it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


def test_the_quick_benchmark_measures_every_row_and_checks_its_answer(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    output = tmp_path / "speed.json"
    command = [sys.executable, "-m", "edgeflow.cli", "bench", "--quick", "--explain", "--output", str(output)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    report = json.loads(output.read_text())
    rows = {row["row"]["name"]: row for row in report["models"][0]["rows"]}
    assert list(rows) == ["torch", "onnxruntime", "equal-2"]
    for name, row in rows.items():
        if row["skipped"]:  # a machine with one core has no room for two devices
            assert name == "equal-2" and "cores" in row["skipped"]
            continue
        assert row["error"] < 1e-4
        assert 0 < row["latency"]["min_s"] <= row["latency"]["median_s"] <= row["latency"]["max_s"]
        assert row["period"]["median_s"] > 0
        assert name in done.stdout
    assert max(rows[name]["speedup"] for name in ("torch", "onnxruntime")) == 1
    if not rows["equal-2"]["skipped"]:
        assert rows["equal-2"]["predicted_latency_s"] > 0
        assert any(time["compute_s"] > 0 for time in rows["equal-2"]["times"])
    assert output.with_suffix(".png").stat().st_size > 0
