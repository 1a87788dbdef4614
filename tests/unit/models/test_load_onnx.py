"""ONNX files as MODEL: open shapes, who the reference is, every command."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from edgeflow.cli.app import app
from edgeflow.cli.options import parse_input_shapes
from edgeflow.errors import ConfigError
from edgeflow.graph.compare import compare
from edgeflow.models.load import load_subject

onnx = pytest.importorskip("onnx", reason="the onnx package is not installed")


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A convolution and a pool over an image whose batch, rows and columns are open, and another input."""
    rng = np.random.default_rng(0)
    node, info = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [
            node("Conv", ["image", "w"], ["a"], pads=[1, 1, 1, 1]),
            node("Mul", ["a", "scale"], ["b"]),
            node("Relu", ["b"], ["c"]),
            node("GlobalAveragePool", ["c"], ["y"]),
        ],
        "net",
        [info("image", 1, ["batch", 3, None, None]), info("scale", 1, [1])],
        [info("y", 1, None)],
        [onnx.numpy_helper.from_array(rng.standard_normal((8, 3, 3, 3)).astype(np.float32), "w")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=10)
    path = tmp_path / "net.onnx"
    path.write_bytes(model.SerializeToString())
    return str(path)


_SHAPE = ("--input-shape", "image=1x3x32x24")
_SPEEDS = ("--speeds", "1,0.6,0.4", "--strategy", "coedge")


def test_every_command_takes_an_onnx_file(path: str, tmp_path: Path) -> None:
    graph, plan = str(tmp_path / "net.edgeflow"), str(tmp_path / "plan.json")

    for command in (
        ("capture", path, *_SHAPE, "-o", graph),
        ("plan", path, *_SHAPE, *_SPEEDS, "-o", plan),
        ("run", path, *_SHAPE, *_SPEEDS),
        ("verify", path, *_SHAPE, *_SPEEDS),
        ("verify", path, *_SHAPE, "--plan", plan),
        ("verify", graph, "--plan", plan),
        ("coverage", path, *_SHAPE),
    ):
        result = invoke(*command)
        assert result.exit_code == 0, (command, result.output)


def test_shapes_that_are_missing_are_named_with_what_to_write(path: str) -> None:
    result = invoke("coverage", path)

    assert result.exit_code == 3
    assert "input 'image' of shape (batch, 3, ?, ?) leaves dim 0 ('batch'), dim 2" in result.stderr
    assert "--input-shape 'image=?x3x?x?'" in result.stderr
    assert "'scale'" not in result.stderr


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["image"], "expected NAME=SIZExSIZE"),
        (["=1x3"], "expected NAME=SIZExSIZE"),
        (["image=1x?x3"], "expected NAME=SIZExSIZE"),
        (["image=1x0"], "expected NAME=SIZExSIZE"),
        (["image=1", "image=2"], "'image' is given twice"),
    ],
)
def test_a_shape_that_is_none_is_a_usage_error(path: str, given: list[str], said: str) -> None:
    flags = [flag for text in given for flag in ("--input-shape", text)]
    result = invoke("coverage", path, *flags)

    assert result.exit_code == 2
    assert said in " ".join(result.output.replace("│", " ").split())


def test_names_of_inputs_may_hold_anything() -> None:
    assert parse_input_shapes(["a=b:0=2x3"]) == {"a=b:0": (2, 3)}


@pytest.mark.parametrize("model", ["mlp", "package.module:factory", "net.edgeflow"])
def test_shapes_are_for_onnx_files(model: str) -> None:
    with pytest.raises(ConfigError, match="--input-shape is for ONNX files"):
        load_subject(model, input_shapes={"x": (1, 3)})


def test_an_onnx_file_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match="no ONNX file"):
        load_subject("nowhere/net.onnx")


def test_the_reference_is_onnx_runtime(path: str) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="the onnxruntime package is not installed")

    said = json.loads(invoke("verify", path, *_SHAPE, *_SPEEDS, "--json").stdout)

    assert said["passed"] is True
    assert said["reference"] == f"ONNX Runtime {onnxruntime.__version__}, without its optimisations"


def test_the_reference_is_the_graph_where_there_is_no_onnx_runtime(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = load_subject(path, input_shapes={"image": (1, 3, 32, 24)})
    theirs = subject.reference()
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    ours = subject.reference()

    assert "onnxruntime is not installed" in ours.by
    assert compare(ours.answer, theirs.answer).relative < 1e-6


def test_the_reference_is_the_graph_where_onnx_runtime_refuses_the_file(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="the onnxruntime package is not installed")

    def refuse(*args: object, **options: object) -> None:
        raise RuntimeError("no kernel for that\nand more")

    monkeypatch.setattr(onnxruntime, "InferenceSession", refuse)
    reference = load_subject(path, input_shapes={"image": (1, 3, 32, 24)}).reference()

    assert "ONNX Runtime cannot run the file: no kernel for that)" in reference.by


def test_a_file_whose_batch_is_open_takes_several_requests(tmp_path: Path) -> None:
    node, info = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [node("GlobalAveragePool", ["image"], ["y"])],
        "net",
        [info("image", 1, ["batch", 3, 4, 4])],
        [info("y", 1, None)],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=10)
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    batch = load_subject(str(tmp_path / "net.onnx"), input_shapes={"image": (1, 3, 4, 4)}).batch(4)

    assert batch.graph.specs["image"].shape == (4, 3, 4, 4)
    assert batch.single.specs["image"].shape == (1, 3, 4, 4)


def test_a_file_with_an_input_that_all_requests_share_takes_one_at_a_time(path: str) -> None:
    subject = load_subject(path, input_shapes={"image": (1, 3, 32, 24)})
    with pytest.raises(ConfigError, match="net cannot be captured for 5 requests at once"):
        subject.batch(5)


def test_the_reference_of_a_module_is_the_module() -> None:
    result = invoke("verify", "mlp", "--speeds", "1,1", "--strategy", "megatron")

    assert "reference: the module, run by PyTorch" in result.stdout
