"""``edgeflow coverage``: the table, the summary, and JSON for programs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from edgeflow.cli.app import app
from edgeflow.graph.capture import capture
from edgeflow.graph.file import save_graph


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


class _Basis(torch.nn.Module):
    """A convolution, and an operator that only makes all of its outputs at once."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.linalg.qr(self.conv(x))[0]


@pytest.fixture
def basis(tmp_path: Path) -> str:
    path = tmp_path / "basis.edgeflow"
    save_graph(capture(_Basis().eval(), (torch.zeros(1, 3, 8, 8),), name="basis"), path)
    return str(path)


def test_a_model_that_splits_says_so() -> None:
    result = invoke("coverage", "tiny-resnet")

    assert result.exit_code == 0, result.output
    assert "100.00 % of" in result.stdout
    assert "0 of" in result.stdout
    assert "a split of dim 2 of" in result.stdout
    assert "tensor parallelism" in result.stdout
    assert "at most" not in result.stdout


def test_a_barrier_is_named_with_its_reason(basis: str) -> None:
    result = invoke("coverage", basis)

    line = next(line for line in result.stdout.splitlines() if line.startswith("linalg_qr"))
    assert "1: several outputs" in line
    assert "at most" in result.stdout
    assert "1 of 2 operators run whole" in result.stdout


def test_json_holds_all_of_it(basis: str) -> None:
    said = json.loads(invoke("coverage", basis, "--json").stdout)

    by_target = {item["target"]: item for item in said["operators"]}
    assert by_target["aten.conv2d.default"]["splits"] == {"dim 1": 1, "dim 2": 1, "dim 3": 1, "sum": 1}
    assert by_target["aten.conv2d.default"]["whole"] == {}
    assert [item["whole"] for target, item in by_target.items() if "linalg_qr" in target] == [
        {"several outputs": 1}
    ]
    assert said["flops_are_bounds"] is True
    assert 0 < said["split_share"] < 1
    assert said["reaches"][-1]["kind"] == "tensor"
