"""ONNX files come from strangers: what is damaged, or points elsewhere, is refused."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch

from edgeflow.errors import CodecError, ConfigError, GraphError, UnsupportedOperatorError
from edgeflow.graph.onnx_.capture import capture_onnx
from edgeflow.graph.onnx_.read import read_file, tensor_of
from tests.unit.graph.onnx_.onnx_cases import Fixed, fixed, floats, one_node, onnx


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.onnx"


def _save(model: Any, path: Path) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


def _add_outside(location: str, *, length: int | None = None, offset: int = 0, weight: Fixed) -> Any:
    """Return a model whose only weight lies in another file."""
    model = one_node("Add", floats(2, 3), weight)
    tensor = model.graph.initializer[0]
    data = tensor.raw_data
    tensor.ClearField("raw_data")
    onnx.external_data_helper.set_external_data(
        _with_raw(tensor, data), location, offset=offset, length=len(data) if length is None else length
    )
    tensor.ClearField("raw_data")
    return model


def _with_raw(tensor: Any, data: bytes) -> Any:
    tensor.raw_data = data
    return tensor


def test_a_file_that_is_not_there_is_named(path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no ONNX file .*model\.onnx"):
        capture_onnx(path)


@pytest.mark.parametrize("data", [b"", b"hello", b"\x08\x0a", bytes(range(256)) * 10])
def test_what_is_no_onnx_file_is_refused(path: Path, data: bytes) -> None:
    path.write_bytes(data)

    with pytest.raises(CodecError, match=r"model\.onnx is not an ONNX"):
        capture_onnx(path)


def test_a_file_cut_short_is_refused(path: Path) -> None:
    whole = one_node("Add", floats(2, 3), fixed(floats(3))).SerializeToString()
    path.write_bytes(whole[:-20])

    with pytest.raises(CodecError):
        capture_onnx(path)


def test_without_the_onnx_package_the_message_says_what_to_install(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _save(one_node("Relu", floats(2)), path)
    monkeypatch.setitem(sys.modules, "onnx", None)

    with pytest.raises(ConfigError, match=r"pip install edgeflow-inference\[onnx\]"):
        capture_onnx(path)


def test_an_opset_from_the_future_is_refused(path: Path) -> None:
    _save(one_node("Relu", floats(2), opset=99), path)

    with pytest.raises(UnsupportedOperatorError, match="opset 99"):
        capture_onnx(path)


def test_initialisers_among_the_inputs_are_no_inputs(path: Path) -> None:
    """Files of IR versions before 4 list them there."""
    model = one_node("Add", floats(2, 3), fixed(floats(3)))
    model.graph.input.append(onnx.helper.make_tensor_value_info("x1", 1, [3]))

    assert [item.name for item in read_file(_save(model, path)).inputs] == ["x0"]


def test_an_input_of_a_dtype_that_graphs_lack_is_refused(path: Path) -> None:
    _save(one_node("Identity", np.zeros(3, np.uint16)), path)

    with pytest.raises(GraphError, match="'x0' is of type UINT16"):
        capture_onnx(path)


def test_an_input_that_is_no_tensor_is_refused(path: Path) -> None:
    model = one_node("Identity", floats(2))
    value = onnx.helper.make_tensor_sequence_value_info("x0", 1, [2])
    model.graph.input[0].CopyFrom(value)

    with pytest.raises(GraphError, match="'x0' is a sequence_type, not a tensor"):
        capture_onnx(_save(model, path))


def test_functions_of_the_file_are_written_out(path: Path) -> None:
    body = [onnx.helper.make_node("Add", ["a", "a"], ["b"]), onnx.helper.make_node("Relu", ["b"], ["c"])]
    opsets = [onnx.helper.make_opsetid("", 17)]
    function = onnx.helper.make_function("mine", "Twice", ["a"], ["c"], body, opsets)
    model = one_node("Twice", floats(2, 3), domain="mine")
    model.functions.append(function)

    graph = capture_onnx(_save(model, path))

    assert [op.target for op in graph.operators] == ["aten.add.Tensor", "aten.relu.default"]


@pytest.mark.parametrize("calls", [0, 2])
def test_functions_that_stand_for_too_much_are_refused_unwritten(path: Path, calls: int) -> None:
    """Forty functions that call the next one twice stand for 2**40 nodes; one may call itself, too."""
    opsets = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("mine", 1)]

    def twice(name: str, inner: str) -> Any:
        domain = "" if inner == "Relu" else "mine"
        body = [
            onnx.helper.make_node(inner, ["a"], ["b"], domain=domain),
            onnx.helper.make_node(inner, ["b"], ["c"], domain=domain),
        ]
        return onnx.helper.make_function("mine", name, ["a"], ["c"], body, opsets)

    model = one_node("F0", floats(2, 3), domain="mine")
    if calls:
        model.functions.extend(twice(f"F{n}", f"F{n + 1}" if n < 39 else "Relu") for n in range(40))
        why = "more than 1,000,000 nodes with its functions inlined"
    else:
        model.functions.append(twice("F0", "F0"))
        why = "'F0' calls itself"

    with pytest.raises(CodecError, match=why):
        capture_onnx(_save(model, path))


def test_a_file_larger_than_the_format_allows_is_not_read(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**31)  # takes no room on the disk

    with pytest.raises(CodecError, match=r"2,147,483,648 bytes, an ONNX file at most 2,147,483,647"):
        capture_onnx(path)


@pytest.mark.parametrize("what", ["input", "output", "initializer"])
def test_names_that_are_there_twice_are_refused(path: Path, what: str) -> None:
    model = one_node("Add", floats(2, 3), fixed(floats(3)))
    items = getattr(model.graph, what)
    items.append(items[0])

    with pytest.raises(CodecError, match=f"two entries of its {what}s are called"):
        capture_onnx(_save(model, path))


def test_an_input_that_no_request_would_bring_is_refused(path: Path) -> None:
    model = one_node("Relu", floats(2, 3))
    model.graph.input[0].CopyFrom(onnx.helper.make_tensor_value_info("x0", 1, [2**20, 2**20]))

    with pytest.raises(GraphError, match=r"'x0' of shape \(1048576, 1048576\) has 4,398,046,511,104 bytes"):
        capture_onnx(_save(model, path))


def test_offsets_that_are_no_numbers_are_refused(path: Path) -> None:
    weight = floats(3)
    (path.parent / "w.bin").write_bytes(weight.tobytes())
    model = _add_outside("w.bin", weight=Fixed(weight))
    for entry in model.graph.initializer[0].external_data:
        if entry.key == "offset":
            entry.value = "twelve"

    with pytest.raises(CodecError, match="'x1' of shape"):
        capture_onnx(_save(model, path))


def test_bfloat16_is_read_both_ways(tmp_path: Path) -> None:
    values = np.array([[1.5, -2.0]], dtype=ml_dtypes.bfloat16)
    raw = onnx.TensorProto(name="w", data_type=16, dims=[1, 2], raw_data=values.tobytes())
    listed = onnx.TensorProto(name="w", data_type=16, dims=[1, 2])
    listed.int32_data.extend(int(value) for value in values.view(np.uint16).reshape(-1))

    for proto in (raw, listed):
        tensor = tensor_of(proto, tmp_path)
        assert tensor.dtype == torch.bfloat16
        assert tensor.tolist() == [[1.5, -2.0]]


@pytest.mark.parametrize(
    "proto",
    [
        {"data_type": 1, "dims": [3], "raw_data": b"12345"},
        {"data_type": 1, "dims": [-1], "raw_data": b"1234"},
        {"data_type": 16, "dims": [3], "raw_data": b"12"},
        {"data_type": 1, "dims": [2, 2], "float_data": [1.0]},
    ],
)
def test_tensors_of_the_wrong_size_are_refused(tmp_path: Path, proto: dict[str, Any]) -> None:
    with pytest.raises(CodecError, match="'w'"):
        tensor_of(onnx.TensorProto(name="w", **proto), tmp_path)


def test_weights_beside_the_file_are_read(path: Path) -> None:
    weight = floats(3)
    (path.parent / "data").mkdir()
    (path.parent / "data" / "w.bin").write_bytes(b"1234" + weight.tobytes() + b"5")
    _save(_add_outside("data/w.bin", offset=4, weight=Fixed(weight)), path)

    graph = capture_onnx(path)

    (value,) = graph.weights.values()
    np.testing.assert_array_equal(value, weight)


@pytest.mark.parametrize(
    "location", ["../secret.bin", "data/../../secret.bin", "", ".", "{absolute}", "link.bin"]
)
def test_weights_outside_of_the_folder_are_not_read(tmp_path: Path, location: str) -> None:
    """A file from a stranger must not reach the user's other files."""
    weight = floats(3)
    secret = tmp_path / "secret.bin"
    secret.write_bytes(weight.tobytes())
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "link.bin").symlink_to(secret)
    model = _add_outside(location.format(absolute=secret), weight=Fixed(weight))

    with pytest.raises(CodecError, match="outside the model's folder"):
        capture_onnx(_save(model, folder / "model.onnx"))


def test_weights_beside_the_file_that_are_missing_or_short_are_named(path: Path) -> None:
    weight = floats(3)
    _save(_add_outside("w.bin", weight=Fixed(weight)), path)
    with pytest.raises(CodecError, match=r"file .*w\.bin is missing"):
        capture_onnx(path)

    (path.parent / "w.bin").write_bytes(weight.tobytes()[:-1])
    with pytest.raises(CodecError, match="needs 12 bytes"):
        capture_onnx(path)

    (path.parent / "w.bin").write_bytes(weight.tobytes())
    _save(_add_outside("w.bin", length=8, weight=Fixed(weight)), path)
    with pytest.raises(CodecError, match="needs 12 bytes"):
        capture_onnx(path)
