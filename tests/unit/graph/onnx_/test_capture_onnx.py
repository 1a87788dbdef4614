"""The graph of an ONNX file: its inputs, its outputs, its shapes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import edgeflow
from edgeflow.errors import ConfigError
from edgeflow.graph.file import load_graph, save_graph
from edgeflow.graph.onnx_.capture import capture_onnx
from tests.unit.graph.interpret import run, targets
from tests.unit.graph.onnx_.onnx_cases import captured, fixed, floats, one_node, onnx
from tests.unit.graph.onnx_.test_resolve import model

_node = onnx.helper.make_node


def _open(shape: list[int | str | None] | None) -> Any:
    """Return a model of one input with open dims."""
    relu = one_node("Relu", floats(1))
    relu.graph.input[0].CopyFrom(onnx.helper.make_tensor_value_info("x0", 1, shape))
    return relu


def test_inputs_have_the_names_and_the_order_of_the_file() -> None:
    """Also names that are no identifiers, or that an operator's result would have."""
    nodes = [
        _node("Relu", ["input.1"], ["a"]),
        _node("Sub", ["a", "relu"], ["b"]),
        _node("Sub", ["b", "x:0"], ["y0"]),
    ]
    a, b, c = (floats(2, 3, seed=seed) for seed in range(3))
    graph = captured(model(nodes, {"relu": a, "x:0": b, "input.1": c}, ["y0"]))

    assert graph.inputs == ("relu", "x:0", "input.1")
    made = run(graph, (torch.from_numpy(a), torch.from_numpy(b), torch.from_numpy(c)))
    np.testing.assert_allclose(made.numpy(), np.maximum(c, 0) - a - b, rtol=1e-6, atol=1e-6)


def test_an_input_that_nobody_reads_stays_an_input() -> None:
    graph = captured(model([_node("Relu", ["x"], ["y0"])], {"unused": floats(3), "x": floats(2)}, ["y0"]))

    assert graph.inputs == ("unused", "x")


def test_several_outputs_are_a_dict_and_one_is_a_tensor(tmp_path: Path) -> None:
    nodes = [_node("Relu", ["x"], ["out.b"]), _node("Neg", ["x"], ["out.a"])]
    graph = captured(model(nodes, {"x": floats(2)}, ["out.b", "out.a"]))
    x = torch.tensor([1.0, -2.0])
    save_graph(graph, tmp_path / "g.edgeflow")

    for known in (graph, load_graph(tmp_path / "g.edgeflow")):
        made = run(known, (x,))
        assert list(made) == ["out.b", "out.a"]
        assert made["out.a"].tolist() == [-1.0, 2.0]
    assert run(captured(one_node("Neg", floats(2))), (x,)).tolist() == [-1.0, 2.0]


def test_outputs_that_are_inputs_or_constants_are_returned() -> None:
    nodes = [
        _node("Identity", ["x"], ["same"]),
        _node("Shape", ["x"], ["shape"]),
        _node("Relu", ["x"], ["y"]),
    ]
    graph = captured(model(nodes, {"x": floats(2, 3)}, ["same", "shape", "w", "y"], {"w": floats(4)}))
    x = torch.from_numpy(floats(2, 3, seed=5))

    made = run(graph, (x,))

    assert torch.equal(made["same"], x)
    assert made["shape"].tolist() == [2, 3]
    np.testing.assert_array_equal(made["w"].numpy(), floats(4))


def test_batch_norm_goes_into_the_convolution() -> None:
    stats = {name: np.abs(floats(4, seed=i)) + 0.5 for i, name in enumerate(["scale", "b", "mean", "var"])}
    nodes = [
        _node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        _node("BatchNormalization", ["c", "scale", "b", "mean", "var"], ["n"]),
        _node("Relu", ["n"], ["y0"]),
    ]
    graph = captured(model(nodes, {"x": floats(1, 3, 8, 8)}, ["y0"], {"w": floats(4, 3, 3, 3), **stats}))

    assert targets(graph) == ["conv2d", "relu"]


def test_the_name_is_the_files_unless_given(tmp_path: Path) -> None:
    path = tmp_path / "resnet.v2.onnx"
    path.write_bytes(one_node("Relu", floats(2)).SerializeToString())

    assert capture_onnx(str(path)).name == "resnet.v2"
    assert capture_onnx(path, name="mine").name == "mine"


def test_weights_have_names_like_those_of_the_file() -> None:
    nodes = [_node("Mul", ["x", "layer.0/w"], ["a"]), _node("Mul", ["a", "layer_0.w"], ["y0"])]
    weights = {"layer.0/w": floats(3), "layer_0.w": floats(3, seed=1)}
    graph = captured(model(nodes, {"x": floats(2, 3)}, ["y0"], weights))

    assert len(graph.weights) == 2
    assert all("layer_0_w" in name for name in graph.weights)


def test_open_dims_are_given_by_the_caller() -> None:
    graph = captured(_open(["batch", 3, None]), input_shapes={"x0": (2, 3, 5)})

    assert graph.specs["x0"].shape == (2, 3, 5)


@pytest.mark.parametrize(
    ("shape", "given", "why"),
    [
        (
            ["batch", 3, None],
            None,
            r"dim 0 \('batch'\), dim 2 \('\?'\) open.*input_shapes=\{'x0': \(\?, 3, \?\)\}",
        ),
        ([0, 3], None, r"dim 0 \('\?'\)"),
        (None, None, "has no shape in the file"),
        (["batch", 3], {"x0": (2, 4)}, r"\(batch, 3\), input_shapes gives \(2, 4\)"),
        (["batch", 3], {"x0": (2, 3, 1)}, r"\(batch, 3\), input_shapes gives \(2, 3, 1\)"),
        (["batch", 3], {"x0": (0, 3)}, "positive"),
        (["batch", 3], {"y": (2, 3)}, "input_shapes names 'y'; its inputs: 'x0'"),
        ([2, 3], {"x0": (4, 3)}, r"\(2, 3\), input_shapes gives \(4, 3\)"),
    ],
)
def test_shapes_that_are_open_or_do_not_fit_are_refused(shape: Any, given: Any, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        captured(_open(shape), input_shapes=given)


def test_every_open_input_is_named_at_once() -> None:
    open_ = one_node("Add", floats(1), floats(1))
    for index, item in enumerate(open_.graph.input):
        item.CopyFrom(onnx.helper.make_tensor_value_info(item.name, 1, [f"n{index}", 3]))

    with pytest.raises(ConfigError, match=r"'x0' of shape \(n0, 3\).*'x1'.*--input-shape 'x1=\?x3'"):
        captured(open_)


def test_it_is_a_public_name() -> None:
    assert edgeflow.capture_onnx is capture_onnx
    assert "capture_onnx" in dir(edgeflow)


def test_a_graph_without_inputs_answers_with_what_it_knows() -> None:
    assert run(captured(one_node("Neg", fixed(floats(3)))), ()).tolist() == (-floats(3)).tolist()
