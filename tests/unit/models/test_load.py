"""The MODEL argument: a file, a factory, a name, and a clear word for everything else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from edgeflow.errors import CodecError, ConfigError, GraphError
from edgeflow.graph.capture import capture
from edgeflow.graph.compare import compare
from edgeflow.graph.file import save_graph
from edgeflow.models.inputs import random_inputs
from edgeflow.models.load import load_subject

FACTORIES = """
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(4, 2)

    def forward(self, x, *, scale=None):
        y = self.linear(x)
        return y if scale is None else y * scale

class Undecided(torch.nn.Module):
    def forward(self, x):
        return x + 1 if x.sum() > 0 else x

def two():
    return Net(), (torch.ones(1, 4),)

def three():
    return Net(), (torch.ones(1, 4),), {"scale": torch.full((1, 2), 3.0)}

def just_a_module():
    return Net()

def a_list_of_args():
    return Net(), [torch.ones(1, 4)]

def broken():
    raise RuntimeError("no weights here")

def undecided():
    return Undecided(), (torch.ones(1, 4),)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """Factories in the current folder; returns the name of their module, another one in each test."""
    name = f"factories_{abs(hash(request.node.name))}"
    (tmp_path / f"{name}.py").write_text(FACTORIES, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


def test_a_name_of_the_zoo() -> None:
    subject = load_subject("mlp")

    assert subject.name == subject.graph.name == "mlp"
    assert subject.reference().answer.shape == (4, 10)


def test_a_factory_of_module_and_args(folder: str) -> None:
    subject = load_subject(f"{folder}:two")

    assert len(subject.graph.inputs) == 1
    assert not subject.kwargs


def test_a_factory_with_keyword_arguments(folder: str) -> None:
    subject = load_subject(f"{folder}:three")

    assert len(subject.graph.inputs) == 2
    assert list(subject.kwargs) == ["scale"]


def test_a_saved_graph_answers_as_the_module_does(tmp_path: Path) -> None:
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.ReLU(), torch.nn.Flatten())
    save_graph(capture(module, (torch.zeros(1, 3, 8, 8),)), tmp_path / "net.edgeflow")
    subject = load_subject(str(tmp_path / "net.edgeflow"), seed=3)

    with torch.inference_mode():
        expected = module(*(torch.from_numpy(np.asarray(arg)) for arg in subject.args))
    assert subject.name == "net"
    assert compare(subject.reference().answer, expected).relative < 1e-6


def test_a_factory_makes_batches_and_a_saved_graph_says_why_it_does_not(folder: str, tmp_path: Path) -> None:
    subject = load_subject(f"{folder}:three")
    batch = subject.batch(3)
    save_graph(subject.graph, tmp_path / "net.edgeflow")

    assert [batch.graph.specs[name].shape for name in batch.graph.inputs] == [(3, 4), (3, 2)]
    with pytest.raises(ConfigError, match="is a saved graph, whose shapes are fixed"):
        load_subject(str(tmp_path / "net.edgeflow")).batch(3)


def test_random_inputs_follow_the_seed_and_the_structure(tmp_path: Path) -> None:
    class Net(torch.nn.Module):
        def forward(self, pair: tuple[torch.Tensor, torch.Tensor], *, ids: torch.Tensor) -> torch.Tensor:
            return pair[0] + pair[1] + ids

    graph = capture(Net(), ((torch.zeros(2), torch.zeros(2)),), {"ids": torch.zeros(2, dtype=torch.int64)})
    args, kwargs = random_inputs(graph, seed=1)
    again, _ = random_inputs(graph, seed=1)
    other, _ = random_inputs(graph, seed=2)

    assert np.array_equal(args[0][0], again[0][0])
    assert not np.array_equal(args[0][0], other[0][0])
    assert kwargs["ids"].dtype == np.int64
    assert not kwargs["ids"].any()


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("resnet51", "no model is called 'resnet51'"),
        ("resnet51", "openworld-base"),
        ("nowhere/net.edgeflow", "there is no file 'nowhere/net.edgeflow'"),
        (":make", "expected package.module:factory"),
        ("package:", "expected package.module:factory"),
        ("no_such_package.models:make", "No module named 'no_such_package'"),
        ("math:make", "AttributeError"),
        ("math:gcd", "must return (module, args)"),
        ("math:sqrt", "TypeError"),
    ],
)
def test_what_names_nothing_is_refused(model: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_subject(model)

    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("factory", "said"),
    [
        ("just_a_module", "must return (module, args) or (module, args, kwargs)"),
        ("a_list_of_args", "got (Net, list)"),
        ("broken", "RuntimeError: no weights here"),
        ("missing", "has no attribute 'missing'"),
    ],
)
def test_a_wrong_factory_is_refused(folder: str, factory: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_subject(f"{folder}:{factory}")

    assert said in str(caught.value)


def test_a_model_that_cannot_be_exported_is_a_graph_error(folder: str) -> None:
    with pytest.raises(GraphError):
        load_subject(f"{folder}:undecided")


def test_a_file_that_is_no_graph(tmp_path: Path) -> None:
    path = tmp_path / "net.edgeflow"
    path.write_bytes(b"not a graph")
    with pytest.raises(CodecError, match=r"net\.edgeflow"):
        load_subject(str(path))
