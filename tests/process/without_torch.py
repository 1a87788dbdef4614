"""A worker's job in a process where torch cannot be imported; run by `test_worker_without_torch`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.modules["torch"] = None  # type: ignore[assignment]

import numpy as np

import edgeflow.cli.worker
import edgeflow.cost
import edgeflow.runtime.coordinator
import edgeflow.runtime.profile.device
import edgeflow.runtime.worker
from edgeflow.graph.ir import NUMPY_DTYPES
from edgeflow.plan.program import CLIENT
from edgeflow.runtime.executor import available_executors, make_executor
from edgeflow.runtime.local import run_programs
from edgeflow.runtime.worker.check import decode_program


class _Weights(dict):
    """Weights of the graph, by name: all that `run_programs` asks of one."""


class _Graph:
    def __init__(self, weights) -> None:
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
