"""Scales and shifts behind a layer go into it, where nobody would notice."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeflow.graph.ir import ModelGraph
from tests.unit.graph.interpret import targets
from tests.unit.graph.onnx_.onnx_cases import Array, answers, captured, expected, floats, onnx
from tests.unit.graph.onnx_.test_resolve import model

_node = onnx.helper.make_node
_KERNEL = {"w": floats(4, 3, 3, 3)}
_X = floats(1, 3, 6, 6)


def _checked(nodes: list[Any], weights: dict[str, Array], x: Array = _X) -> ModelGraph:
    """Return the graph of some nodes, checked against ONNX Runtime."""
    made = model(nodes, {"x": x}, ["y0"], weights)
    graph = captured(made)
    right = expected(made, {"x": x})["y0"]
    np.testing.assert_allclose(answers(graph, {"x": x})["y0"], right, rtol=0, atol=1e-5 * np.abs(right).max())
    return graph


def test_a_chain_of_constants_goes_into_a_convolution() -> None:
    nodes = [
        _node("Conv", ["x", "w", "b"], ["a"]),
        _node("Mul", ["scale", "a"], ["s"]),
        _node("Sub", ["s", "mean"], ["m"]),
        _node("Div", ["m", "two"], ["d"]),
        _node("Add", ["d", "shift"], ["y0"]),
    ]
    weights = {
        **_KERNEL,
        "b": floats(4),
        "scale": floats(4, 1, 1),
        "mean": floats(1, 4, 1, 1),
        "two": np.array(2, np.float32),
        "shift": floats(1),
    }

    graph = _checked(nodes, weights)

    assert targets(graph) == ["conv2d"]
    assert len(graph.weights) == 2


def test_a_bias_goes_into_a_linear_layer() -> None:
    nodes = [_node("MatMul", ["x", "w"], ["a"]), _node("Add", ["b", "a"], ["y0"])]

    assert targets(_checked(nodes, {"w": floats(5, 4), "b": floats(4)}, floats(2, 3, 5))) == ["linear"]


@pytest.mark.parametrize(
    ("step", "constant"),
    [
        (["Sub", "c", "a"], floats(4, 1, 1)),
        (["Div", "c", "a"], floats(4, 1, 1)),
        (["Add", "a", "c"], floats(6 - 2)),
        (["Mul", "a", "c"], floats(4, 4, 1)),
        (["Add", "a", "c"], floats(1, 1, 1, 1, 1)),
        (["Add", "a", "a"], floats(1)),
    ],
)
def test_what_is_not_one_number_a_channel_stays(step: list[str], constant: Array) -> None:
    nodes = [_node("Conv", ["x", "w"], ["a"]), _node(step[0], step[1:], ["y0"])]

    assert len(_checked(nodes, {**_KERNEL, "c": constant}).operators) == 2


def test_what_somebody_else_reads_stays() -> None:
    nodes = [
        _node("Conv", ["x", "w"], ["a"]),
        _node("Mul", ["a", "c"], ["s"]),
        _node("Add", ["s", "a"], ["y0"]),
    ]

    assert targets(_checked(nodes, {**_KERNEL, "c": floats(4, 1, 1)})) == ["conv2d", "mul", "add"]


def test_weights_that_two_layers_share_are_not_scaled() -> None:
    """A bias may still go in: it leaves the weights shared."""
    nodes = [
        _node("Conv", ["x", "w"], ["a"]),
        _node("Mul", ["a", "c"], ["s"]),
        _node("Conv", ["x", "w"], ["b"]),
        _node("Add", ["b", "c"], ["t"]),
        _node("Sub", ["s", "t"], ["y0"]),
    ]

    graph = _checked(nodes, {**_KERNEL, "c": floats(4, 1, 1)})

    assert sorted(targets(graph)) == ["conv2d", "conv2d", "mul", "sub"]
