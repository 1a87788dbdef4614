"""Workers where torch is not installed: they need neither it nor anything that imports it."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import edgeflow as ef
from edgeflow.graph.structure import flatten_inputs
from edgeflow.plan.program import encode
from edgeflow.testing import models

ROOT = Path(__file__).resolve().parents[2]
_LINE_TIMEOUT_S = 60.0


class _Mixed(nn.Module):
    """A few convolutions, then attention over the positions of what they make."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1)
        )
        self.encoder = nn.TransformerEncoderLayer(
            32, 4, 64, batch_first=True, norm_first=True, activation="gelu"
        )
        self.head = nn.Linear(32, 10)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        tokens = self.stem(x_NCHW).flatten(2).transpose(1, 2)
        y: Tensor = self.head(self.encoder(tokens).mean(dim=1))
        return y


def _mixed() -> tuple[nn.Module, Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = _Mixed()
        models.randomise_norms(module)
        return module.eval(), torch.randn(1, 3, 32, 32)


def test_a_program_runs_where_torch_cannot_be_imported(tmp_path: Path) -> None:
    module, x = _mixed()
    graph = ef.capture(module, (x,))
    plan = ef.plan(graph, ef.Cluster.local(speeds=[1.0, 0.6]), strategy="edgeflow_paper")
    for rank, program in plan.programs.items():
        (tmp_path / f"program{rank}.json").write_bytes(encode(program))
    np.savez(tmp_path / "weights.npz", **graph.weights)
    np.savez(tmp_path / "inputs.npz", **flatten_inputs(graph, (x,)))

    script = Path(__file__).with_name("without_torch.py")
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr

    (answer,) = np.load(tmp_path / "outputs.npz").values()
    with torch.no_grad():
        expected = module(x).numpy()
    np.testing.assert_allclose(answer, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python that has what ``pip install edgeflow-inference[worker]`` brings, and no more."""
    folder = tmp_path_factory.mktemp("bare") / "venv"
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    source = tmp_path_factory.mktemp("source")
    for name in ("edgeflow", "pyproject.toml", "README.md", "LICENSE"):
        (source / name).symlink_to(ROOT / name)
    done = subprocess.run(
        [python, "-m", "pip", "install", "-q", "-c", str(ROOT / "constraints.txt"), f"{source}[worker]"],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    if done.returncode != 0:
        pytest.skip(f"no package index to install from: {done.stderr[-500:]}")
    return python


@pytest.fixture
def worker(bare_python: Path, tmp_path: Path) -> Iterator[str]:
    """The address of ``edgeflow worker`` in that Python."""
    process = subprocess.Popen(
        [
            bare_python.with_name("edgeflow"), "worker", "--bind=127.0.0.1:0", "--threads=1",
            f"--cache-dir={tmp_path / 'cache'}",
        ],
        stdout=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("listening "), line
        yield line.removeprefix("listening ").strip()
    finally:
        process.terminate()
        process.wait(timeout=_LINE_TIMEOUT_S)
        assert process.stdout is not None
        process.stdout.close()


@pytest.mark.slow
def test_that_python_has_no_torch(bare_python: Path) -> None:
    done = subprocess.run([bare_python, "-c", "import torch"], capture_output=True, text=True, check=False)

    assert done.returncode != 0
    assert "No module named 'torch'" in done.stderr


@pytest.mark.slow
def test_a_worker_without_torch_answers_as_the_module_does(worker: str) -> None:
    module, x = _mixed()
    graph = ef.capture(module, (x,))
    plan = ef.plan(graph, ef.Cluster.local(speeds=[1.0]), strategy="single")
    with torch.no_grad():
        expected = module(x)

    with ef.deploy(plan, workers=[worker]) as session:
        answers = [session.run(x) for _ in range(2)]

    for answer in answers:
        torch.testing.assert_close(answer, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))
