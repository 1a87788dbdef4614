"""A worker's job in a process where torch cannot be imported; run by `test_worker_without_torch`.

    python without_torch.py FOLDER

The folder holds ``program<rank>.json``, ``weights.npz`` and ``inputs.npz``; ``outputs.npz`` is written there.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np

#: What a worker, and whoever talks to it, loads.
_MODULES = (
    "edgeflow.cli.worker",
    "edgeflow.cost",
    "edgeflow.measure.calibrate",
    "edgeflow.coordinator",
    "edgeflow.measure.device",
    "edgeflow.worker",
)


class _Graph:
    """All that `run_programs` asks of one: weights by name."""

    def __init__(self, weights: dict[str, Any]) -> None:
        self.weights = weights


def main(folder: Path) -> None:
    sys.modules["torch"] = None  # type: ignore[assignment]
    for module in _MODULES:
        importlib.import_module(module)

    from edgeflow.kernels import available_executors, make_executor
    from edgeflow.rank.local import run_programs
    from edgeflow.worker.check import decode_program

    assert "torch" not in available_executors()
    programs = {
        int(path.stem.removeprefix("program")): decode_program(path.read_bytes())
        for path in folder.glob("program*.json")
    }
    graph: Any = _Graph(dict(np.load(folder / "weights.npz")))
    inputs = dict(np.load(folder / "inputs.npz"))
    outputs = run_programs(graph, programs, inputs, make_executor("auto", threads=1))
    np.savez(folder / "outputs.npz", **outputs)  # type: ignore[arg-type]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
