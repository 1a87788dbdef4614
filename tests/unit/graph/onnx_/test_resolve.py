"""What does not depend on a request is evaluated; what cannot be run is refused by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from edgeflow.errors import CodecError, GraphError, UnsupportedOperatorError
from edgeflow.graph.onnx_ import resolve
from tests.unit.graph.interpret import targets
from tests.unit.graph.onnx_.onnx_cases import (
    Array,
    answers,
    captured,
    expected,
    fixed,
    floats,
    one_node,
    onnx,
    value_info,
)

_node = onnx.helper.make_node
_info = onnx.helper.make_tensor_value_info


def model(
    nodes: Sequence[Any],
    inputs: dict[str, Array],
    outputs: Sequence[str],
    weights: dict[str, Array] | None = None,
    opset: int = 17,
) -> Any:
    """Return a model of several nodes."""
    graph = onnx.helper.make_graph(
        list(nodes),
        "some",
        [value_info(name, array) for name, array in inputs.items()],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [onnx.numpy_helper.from_array(array, name) for name, array in (weights or {}).items()],
    )
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=10)


def branch(nodes: Sequence[Any], output: str) -> Any:
    return onnx.helper.make_graph(list(nodes), output, [], [onnx.ValueInfoProto(name=output)])


def test_shapes_that_the_file_computes_are_evaluated() -> None:
    """As exporters write ``x.reshape(x.shape[0], -1)``."""
    x = floats(2, 3, 4)
    flatten = model(
        [
            _node("Shape", ["x"], ["shape"]),
            _node("Gather", ["shape", "zero"], ["batch"], axis=0),
            _node("Unsqueeze", ["batch", "axes"], ["batch_1d"]),
            _node("Concat", ["batch_1d", "rest"], ["wanted"], axis=0),
            _node("Reshape", ["x", "wanted"], ["y0"]),
        ],
        {"x": x},
        ["y0"],
        {"zero": np.array(0), "axes": np.array([0]), "rest": np.array([-1])},
    )

    graph = captured(flatten)

    assert len(graph.operators) == 1
    assert graph.specs[graph.outputs[0]].shape == (2, 12)


def test_what_depends_on_weights_alone_is_evaluated() -> None:
    weights = {"w": floats(5, 4), "scale": floats(5)[:, None]}
    nodes = [
        _node("Mul", ["w", "scale"], ["scaled"]),
        _node("Transpose", ["scaled"], ["turned"]),
        _node("MatMul", ["x", "turned"], ["y0"]),
    ]
    x = floats(3, 4)
    linear = model(nodes, {"x": x}, ["y0"], weights)

    graph = captured(linear)

    assert targets(graph) == ["linear"]
    np.testing.assert_allclose(
        answers(graph, {"x": x})["y0"], expected(linear, {"x": x})["y0"], rtol=1e-5, atol=1e-5
    )


def _if(condition: Any, **inputs: Array) -> Any:
    squeeze = branch([_node("Squeeze", ["x", "axes"], ["made"])], "made")
    same = branch([_node("Relu", ["x"], ["inner"]), _node("Neg", ["inner"], ["made"])], "made")
    choose = _node("If", ["chosen"], ["y0"], then_branch=squeeze, else_branch=same)
    return model([*condition, choose], inputs, ["y0"], {"axes": np.array([1]), "one": np.array(1)})


@pytest.mark.parametrize("shape", [(2, 1, 3), (2, 5, 3)])
def test_the_branch_that_a_shape_chooses_is_taken(shape: tuple[int, ...]) -> None:
    """As exporters write ``x.squeeze(1)``, which does nothing where the dim is not 1."""
    condition = [
        _node("Shape", ["x"], ["shape"], start=1, end=2),
        _node("Equal", ["shape", "one"], ["chosen"]),
    ]
    x = floats(*shape)

    made = answers(captured(_if(condition, x=x)), {"x": x})["y0"]

    np.testing.assert_array_equal(made, x[:, 0] if shape[1] == 1 else -np.maximum(x, 0))


def test_a_branch_that_a_request_chooses_is_refused() -> None:
    x, chosen = floats(2, 1, 3), np.array(True)

    with pytest.raises(UnsupportedOperatorError, match=r"If 'y0' .*depends on the values of a request"):
        captured(_if([], x=x, chosen=chosen))


def test_a_shape_that_a_request_chooses_is_refused() -> None:
    with pytest.raises(UnsupportedOperatorError) as caught:
        captured(one_node("Reshape", floats(2, 3), np.array([3, 2])))

    assert "Reshape 'the_node' (opset 17)" in str(caught.value)
    assert "input 1 (shape: 'x1') must be fixed" in str(caught.value)
    assert caught.value.operator == "the_node"


def test_every_operator_that_is_missing_is_named_at_once() -> None:
    nodes = [
        _node("Det", ["x"], ["a"], name="first"),
        _node("NonMaxSuppression", ["x", "x"], ["b"], name="second"),
        _node("Det", ["a"], ["c"]),
        _node("Add", ["b", "c"], ["y0"]),
    ]

    with pytest.raises(UnsupportedOperatorError) as caught:
        captured(model(nodes, {"x": floats(2, 2)}, ["y0"], opset=13))

    assert "2 operators are not supported" in str(caught.value)
    assert "Det 'first' (opset 13); NonMaxSuppression 'second' (opset 13)" in str(caught.value)
    assert caught.value.operator == "Det"


def test_an_operator_of_another_domain_is_named_with_it() -> None:
    with pytest.raises(UnsupportedOperatorError, match=r"Frobnicate 'the_node' \(acme opset 1\)"):
        captured(one_node("Frobnicate", floats(2), domain="acme"))


def test_an_input_more_than_is_known_of_is_refused() -> None:
    with pytest.raises(UnsupportedOperatorError, match="2 inputs are given; up to 1 are supported"):
        captured(one_node("Relu", floats(2), floats(2)))

    assert targets(captured(one_node("Relu", floats(2), None, None))) == ["relu"]


def test_what_no_output_depends_on_is_left_alone() -> None:
    nodes = [
        _node("Relu", ["x"], ["y0"]),
        _node("Frobnicate", ["x"], ["unused"]),
        _node("Add", ["nowhere", "x"], ["unused_too"]),
    ]

    assert targets(captured(model(nodes, {"x": floats(2)}, ["y0"]))) == ["relu"]


def test_outputs_that_nobody_reads_need_not_be_supported() -> None:
    """Old files name the mask of a Dropout, and the statistics of a BatchNorm."""
    nodes = [_node("Dropout", ["x"], ["d", "mask"]), _node("Relu", ["d"], ["y0"])]

    assert targets(captured(model(nodes, {"x": floats(2)}, ["y0"], opset=9))) == ["relu"]

    with pytest.raises(UnsupportedOperatorError, match=r"its output 1 .*is not supported"):
        captured(model(nodes[:1], {"x": floats(2)}, ["d", "mask"], opset=9))


@pytest.mark.parametrize(
    ("nodes", "why"),
    [
        ([_node("Relu", ["z"], ["y0"])], "no earlier node makes 'z'"),
        ([_node("Relu", ["a"], ["y0"]), _node("Neg", ["x"], ["a"])], "no earlier node makes 'a'"),
        ([_node("Relu", ["x"], ["x"]), _node("Neg", ["x"], ["y0"])], "makes 'x', which already exists"),
        ([_node("Add", ["x"], ["y0"])], r"the input 1 \('b'\) is missing"),
        ([_node("Gather", ["x", ""], ["y0"])], r"the input 1 \('indices'\) is missing"),
        ([_node("LeakyRelu", ["x"], ["y0"], alpha="much")], "'alpha' should be a float, not str"),
        ([_node("Transpose", ["x"], ["y0"], perm=[0.5, 1.5])], "'perm' should be a list of ints"),
        ([_node("MaxPool", ["x"], ["y0"])], "'kernel_shape' is missing"),
        ([_node("Conv", ["x", "x"], ["y0"], strides=[1])], "'strides' should hold 2 ints"),
        ([_node("Relu", ["x"], ["other"])], "no earlier node makes 'y0'"),
    ],
)
def test_a_file_against_the_specification_is_refused(nodes: list[Any], why: str) -> None:
    with pytest.raises(CodecError, match=why):
        captured(model(nodes, {"x": floats(1, 2, 4, 4)}, ["y0"]))


def test_shapes_that_do_not_fit_are_shown() -> None:
    with pytest.raises(GraphError, match=r"MatMul 'the_node' .*\(2, 3\) float32, \(4, 5\) float32"):
        captured(one_node("MatMul", floats(2, 3), floats(4, 5)))


def test_a_result_without_elements_is_refused() -> None:
    with pytest.raises(GraphError, match=r"'y0' is empty, of shape \(0, 3\)"):
        captured(one_node("Slice", floats(2, 3), fixed([2]), fixed([2])))


_HUGE = 10**12


@pytest.mark.parametrize(
    "nodes",
    [
        [_node("ConstantOfShape", ["huge"], ["c"])],
        [_node("Range", ["zero", "huge", "one"], ["c"])],
        [_node("Expand", ["w", "wide"], ["c"])],
        [_node("Tile", ["w", "huge"], ["c"])],
        [_node("Pad", ["w", "around"], ["c"])],
        [_node("Pad", ["w", "around"], ["c"], mode="edge")],
        [_node("OneHot", ["whole", "huge", "w2"], ["c"])],
        [_node("Tile", ["w", "many"], [f"c{i}"]) for i in range(16)]
        + [_node("Sum", [f"c{i}" for i in range(16)], ["c"])],
    ],
    ids=lambda nodes: nodes[0].op_type,
)
def test_constants_that_a_file_would_make_of_nothing_are_refused_unmade(
    nodes: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few bytes may ask for terabytes, at once or in parts (of a limit that a test can make)."""
    monkeypatch.setattr(resolve, "_MADE_BYTES", 2**20)
    weights = {
        "w": floats(4),
        "w2": floats(2),
        "whole": np.arange(4),
        "zero": np.array(0),
        "one": np.array(1),
        "huge": np.array([_HUGE]),
        "wide": np.array([_HUGE, 4]),
        "many": np.array([2**14]),
        "around": np.array([0, _HUGE]),
    }
    if nodes[0].op_type in ("Range", "OneHot"):
        weights["huge"] = np.array(_HUGE)
    nodes = [*nodes, _node("ReduceMax", ["c"], ["top"], keepdims=0), _node("Add", ["x", "top"], ["y0"])]

    with pytest.raises(GraphError, match=r"at most 134,217,728 elements|more than its weights explain"):
        captured(model(nodes, {"x": floats(2)}, ["y0"], weights))


@pytest.mark.parametrize("op_type", ["Loop", "Scan"])
def test_loops_are_refused_by_name(op_type: str) -> None:
    body = branch([_node("Identity", ["x"], ["made"])], "made")
    looping = _node(op_type, ["x"], ["y0"], body=body, name="again")

    with pytest.raises(UnsupportedOperatorError, match=rf"{op_type} 'again'.*loops"):
        captured(model([looping], {"x": floats(2)}, ["y0"]))


@pytest.mark.parametrize(
    ("refused", "why"),
    [
        (("Resize", floats(1, 1, 4, 4), None, fixed(floats(4) * 0 + 0.5)), "antialias=1"),
        (("BatchNormalization", floats(1, 2), *[fixed(floats(2))] * 4), "training_mode=1"),
        (("AveragePool", floats(1, 1, 9)), "dilations"),
        (("Conv", floats(1, 1, 2, 2, 2, 2), fixed(floats(1, 1, 1, 1, 1, 1))), "4 spatial dims"),
        (("MaxPool", floats(1, 1, 9, 9)), "auto_pad with stride 3 over 9 elements"),
        (("Pad", floats(1, 1, 9), fixed([0, 0, -1, 0, 0, 1])), "negative padding"),
        (("ScatterND", floats(3, 4), fixed([[0]]), fixed(floats(1, 4))), "reduction 'max'"),
    ],
)
def test_attributes_that_cannot_be_said_exactly_are_refused(refused: Any, why: str) -> None:
    attributes: dict[str, dict[str, Any]] = {
        "Resize": {"antialias": 1, "mode": "linear", "opset": 18},
        "BatchNormalization": {"training_mode": 1},
        "AveragePool": {"dilations": [2], "kernel_shape": [2], "opset": 19},
        "MaxPool": {"auto_pad": "SAME_UPPER", "kernel_shape": [1, 3], "strides": [3, 3]},
        "Pad": {"mode": "reflect"},
        "ScatterND": {"reduction": "max", "opset": 18},
    }

    with pytest.raises(UnsupportedOperatorError, match=f"the_node.*{why}"):
        captured(one_node(*refused, **attributes.get(refused[0], {})))


def test_a_nearest_resize_that_others_read_differently_is_refused() -> None:
    shrink = one_node("Resize", floats(1, 1, 6, 6), fixed(np.array([1, 1, 0.6, 0.6], np.float32)), opset=10)

    with pytest.raises(UnsupportedOperatorError, match="opsets before 11 do not specify"):
        captured(shrink)
