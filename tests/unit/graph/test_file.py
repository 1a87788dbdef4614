"""Graphs on disk: what is read is what was written, or an error."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from torch import nn

from edgeflow.errors import CodecError, ConfigError, EdgeflowError, GraphError
from edgeflow.graph.capture import capture
from edgeflow.graph.file import load_graph, save_graph
from edgeflow.graph.ir import ModelGraph
from tests.unit.graph.interpret import assert_same, run


class Small(nn.Module):
    """Weights of several dtypes, one of them a scalar, and an argument that JSON has no number for."""

    scale: torch.Tensor
    half_scale: torch.Tensor
    keep: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3)
        self.half_shift = nn.Parameter(torch.randn(3).bfloat16())
        self.register_buffer("scale", torch.tensor(3.0))
        self.register_buffer("half_scale", torch.tensor(2.0).bfloat16())
        self.register_buffer("keep", torch.tensor([True, False, True]))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = self.linear(x).masked_fill(self.keep, float("inf")) * self.scale
        return y, x[:, :3].bfloat16() * self.half_scale + self.half_shift


X = torch.linspace(-1, 1, 8).view(2, 4)


@pytest.fixture
def graph() -> ModelGraph:
    return capture(Small(), (X,), name="small")


@pytest.fixture
def saved(graph: ModelGraph, tmp_path: Path) -> Path:
    path = tmp_path / "small.edgeflow"
    save_graph(graph, path)
    return path


def test_a_graph_comes_back_as_it_was(graph: ModelGraph, saved: Path) -> None:
    loaded = load_graph(saved)

    assert loaded.fingerprint == graph.fingerprint
    assert loaded.name == "small"
    assert loaded.operators == graph.operators
    assert loaded.specs == graph.specs
    assert loaded.input_structure == graph.input_structure
    assert_same(run(loaded, (X,)), run(graph, (X,)), tolerance=0.0)


def test_a_graph_read_once_can_be_written_again(saved: Path, tmp_path: Path) -> None:
    loaded = load_graph(str(saved))
    save_graph(loaded, tmp_path / "again.edgeflow")

    assert load_graph(tmp_path / "again.edgeflow").fingerprint == loaded.fingerprint


def test_the_fingerprint_tells_weights_and_operators_apart(graph: ModelGraph) -> None:
    name = next(name for name, value in graph.weights.items() if value.ndim == 2)
    nudged = {**graph.weights, name: graph.weights[name] + np.float32(1e-3)}

    assert replace(graph, weights=nudged).fingerprint != graph.fingerprint
    assert replace(graph, outputs=graph.outputs[::-1]).fingerprint != graph.fingerprint
    assert replace(graph, name="other").fingerprint == graph.fingerprint


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no graph file .*missing\.edgeflow"):
        load_graph(tmp_path / "missing.edgeflow")
    with pytest.raises(ConfigError, match="no graph file"):
        load_graph(tmp_path)


@pytest.mark.parametrize("content", [b"", b"not a graph", b"\x00" * 64, b"\xff" * 64])
def test_a_file_of_another_kind(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.edgeflow"
    path.write_bytes(content)
    with pytest.raises(CodecError, match=r"other\.edgeflow is not an edgeflow graph"):
        load_graph(path)


def test_tensors_that_are_no_graph(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file({"w": np.zeros(3)}, str(path))
    with pytest.raises(CodecError, match="format None"):
        load_graph(path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_truncated_file(saved: Path, share: float) -> None:
    content = saved.read_bytes()
    saved.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(CodecError):
        load_graph(saved)


def test_a_flipped_bit_anywhere_is_noticed_or_harmless(graph: ModelGraph, saved: Path) -> None:
    """Whatever is damaged, no other exception comes out, and no graph that differs."""
    content = saved.read_bytes()
    rng = np.random.default_rng(7)
    for position in [*rng.integers(len(content), size=300).tolist(), len(content) - 1]:
        damaged = bytearray(content)
        damaged[position] ^= 1 << int(rng.integers(8))
        saved.write_bytes(damaged)
        try:
            loaded = load_graph(saved)
        except EdgeflowError as error:
            assert isinstance(error, CodecError | GraphError)
        else:
            assert loaded.fingerprint == graph.fingerprint


def _rewritten(path: Path, change: str, to: str) -> None:
    from safetensors import safe_open

    with safe_open(str(path), framework="numpy") as file:
        metadata = dict(file.metadata())
    assert change in metadata["graph"]
    metadata["graph"] = metadata["graph"].replace(change, to, 1)
    save_file(load_file(str(path)), str(path), metadata=metadata)


@pytest.mark.parametrize(
    ("change", "to", "message"),
    [
        ('"aten.mul.Tensor"', '"aten.add.Tensor"', "damaged: its contents have fingerprint"),
        ('"shape":[3,4]', '"shape":[4,3]', r"has shape \(3, 4\), its spec says \(4, 3\)"),
        (
            '"shape":[3,4],"dtype":"float32"',
            '"shape":[3,4],"dtype":"int32"',
            "stored where int32 is expected",
        ),
        ('"operators":[', '"operators":[1,', "Expected `object`"),
        ('"weights":[', '"weights":["nothing",', "nothing"),
    ],
)
def test_a_header_that_contradicts_the_contents(saved: Path, change: str, to: str, message: str) -> None:
    _rewritten(saved, change, to)
    with pytest.raises((CodecError, GraphError), match=message):
        load_graph(saved)
