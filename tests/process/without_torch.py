"""A worker's job in a process where torch cannot be imported; run by `test_worker_without_torch`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.modules["torch"] = None  # type: ignore[assignment]

import numpy as np

import edgeflow.cli.worker
import edgeflow.cost
import edgeflow.runtime.calibrate
import edgeflow.runtime.coordinator
import edgeflow.runtime.profile.device
import edgeflow.runtime.worker  # noqa: F401  # that they can be imported is what this is for
from edgeflow.runtime.executor import available_executors, make_executor
from edgeflow.runtime.local import run_programs
from edgeflow.runtime.worker.check import decode_program


class _Graph:
    """All that `run_programs` asks of one: weights by name."""

    def __init__(self, weights: dict[str, Any]) -> None:
        self.weights = weights


folder = Path(sys.argv[1])
assert "torch" not in available_executors()
programs = {
    int(path.stem.removeprefix("program")): decode_program(path.read_bytes())
    for path in folder.glob("program*.json")
}
weights = dict(np.load(folder / "weights.npz"))
inputs = dict(np.load(folder / "inputs.npz"))
outputs = run_programs(_Graph(weights), programs, inputs, make_executor("auto", threads=1))
np.savez(folder / "outputs.npz", **outputs)
assert sys.modules["torch"] is None
