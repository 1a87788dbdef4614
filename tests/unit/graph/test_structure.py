"""Between nests of tensors and flat arrays: exact both ways, and clear about what does not fit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edgeflow.errors import ConfigError
from edgeflow.graph.capture import capture
from edgeflow.graph.ir import NUMPY_DTYPES, ModelGraph
from edgeflow.graph.structure import (
    Outputs,
    describe,
    flatten_inputs,
    to_array,
    to_torch,
    unflatten_outputs,
)
from tests.unit.graph.interpret import run


class Masked(nn.Module):
    def forward(self, x: torch.Tensor, options: dict[str, Any], *, mask: Any = None) -> dict[str, Any]:
        y = x * options["scale"] * options["times"]
        return {"result": y if mask is None else y * mask, "parts": (y, [y + 1])}


def arguments() -> tuple[tuple[Any, ...], dict[str, Any]]:
    return (torch.ones(2, 3), {"scale": torch.ones(3), "times": 2}), {"mask": torch.ones(2, 1)}


@pytest.fixture(scope="module")
def graph() -> ModelGraph:
    return capture(Masked(), *arguments())


def test_inputs_are_found_by_name_whatever_the_container_of_the_tensors(graph: ModelGraph) -> None:
    args, kwargs = arguments()
    arrays = flatten_inputs(graph, args, kwargs)

    assert list(arrays) == list(graph.inputs)
    assert [value.shape for value in arrays.values()] == [(2, 3), (3,), (2, 1)]

    as_numpy = flatten_inputs(
        graph, (args[0].numpy(), {"times": 2, "scale": args[1]["scale"].numpy()}), {"mask": kwargs["mask"]}
    )
    assert all(np.array_equal(as_numpy[name], arrays[name]) for name in arrays)


def wrong(**changes: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    (x, options), kwargs = arguments()
    options = {**options, **{key: value for key, value in changes.items() if key in options}}
    x = changes.get("x", x)
    args = changes.get("args", (x, changes.get("options", options)))
    return args, changes.get("kwargs", {**kwargs, "mask": changes.get("mask", kwargs["mask"])})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": torch.ones(2, 4)}, r"captured for shape \(2, 3\), got \(2, 4\)"),
        ({"x": torch.ones(6)}, r"captured for shape \(2, 3\), got \(6,\)"),
        ({"x": torch.ones(2, 3, dtype=torch.float64)}, "captured for float32, got float64"),
        ({"x": torch.ones(2, 3, dtype=torch.bfloat16)}, "captured for float32, got bfloat16"),
        ({"x": np.ones((2, 3), dtype=np.int64)}, "captured for float32, got int64"),
        ({"x": None}, r"captured for shape \(2, 3\), got \(\)"),
        ({"x": [[1.0], [1.0, 2.0]]}, "list is not a tensor"),
        ({"times": 3}, "captured with 2, got 3"),
        ({"times": torch.ones(3)}, "captured with 2, got a Tensor"),
        ({"times": np.ones(3)}, "captured with 2, got a ndarray"),
        ({"options": {"scale": torch.ones(3)}}, r"expected the keys \['scale', 'times'\], got \['scale'\]"),
        ({"options": [torch.ones(3), 2]}, r"expected the keys \['scale', 'times'\], got list"),
        ({"kwargs": {}}, r"keyword argument: expected the keys \['mask'\], got \[\]"),
        ({"kwargs": {"musk": 1}}, r"expected the keys \['mask'\], got \['musk'\]"),
        ({"args": (torch.ones(2, 3),)}, "expected 2 items, got 1"),
        ({"args": ()}, "expected 2 items, got 0"),
    ],
)
def test_arguments_that_do_not_fit_are_named(
    graph: ModelGraph, changes: dict[str, Any], message: str
) -> None:
    args, kwargs = wrong(**changes)
    with pytest.raises(ConfigError, match=message):
        flatten_inputs(graph, args, kwargs)


def test_an_argument_that_was_absent_at_capture_stays_absent() -> None:
    graph = capture(Masked(), arguments()[0], {"mask": None})
    with pytest.raises(ConfigError, match="captured with None, got a Tensor"):
        flatten_inputs(graph, *arguments())


def test_outputs_elsewhere_are_read_by_name_attribute_and_position(graph: ModelGraph) -> None:
    """In the process that captured the module they are the module's own type."""
    args, kwargs = arguments()
    here, elsewhere = run(graph, args, kwargs), run(replace(graph, unflatten=None), args, kwargs)

    assert type(here) is dict
    assert isinstance(elsewhere, Outputs)
    assert torch.equal(elsewhere.result, here["result"])
    assert torch.equal(elsewhere[0], here["result"])
    assert torch.equal(elsewhere["parts"][1][0], here["parts"][1][0])
    assert isinstance(elsewhere["parts"], tuple)
    assert isinstance(elsewhere["parts"][1], list)
    with pytest.raises(AttributeError, match="logits"):
        _ = elsewhere.logits


def test_outputs_that_are_numbered_are_read_by_number() -> None:
    numbered = Outputs({"1": "one", "0": "zero"})

    assert numbered[0] == "zero"
    assert numbered[1] == "one"


def test_constants_come_back_with_the_tensors() -> None:
    class Constants(nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[Any, ...]:
            return x * 2, None, 3, "text"

    graph = capture(Constants(), (torch.ones(2),))
    arrays = {graph.outputs[0]: np.full(2, 2.0, dtype=np.float32)}

    assert unflatten_outputs(replace(graph, unflatten=None), arrays)[1:] == (None, 3, "text")


@pytest.mark.parametrize("dtype", [*NUMPY_DTYPES])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_tensors_survive_the_way_to_numpy_and_back(dtype: str, shape: tuple[int, ...]) -> None:
    tensor = torch.randint(0, 2, shape).to(getattr(torch, dtype))
    array = to_array(tensor)

    assert array.dtype == NUMPY_DTYPES[dtype]
    assert array.shape == shape
    back = to_torch(array)
    assert back.dtype == tensor.dtype
    assert torch.equal(back, tensor)


def test_arrays_that_must_not_be_written_and_strided_ones_become_tensors() -> None:
    for dtype in (np.dtype(np.float32), NUMPY_DTYPES["bfloat16"]):
        array = np.arange(12).reshape(3, 4).astype(dtype)
        array.flags.writeable = False

        assert to_torch(array).tolist() == array.astype(float).tolist()
        assert to_torch(array[:, ::2]).tolist() == array[:, ::2].astype(float).tolist()
        assert to_torch(array.copy().T[1:]).tolist() == array.T[1:].astype(float).tolist()


def test_memory_is_shared_where_that_is_possible() -> None:
    tensor = torch.zeros(3)
    to_array(tensor)[1] = 5.0

    assert tensor.tolist() == [0.0, 5.0, 0.0]


def test_what_is_neither_tensor_nor_constant_cannot_be_described() -> None:
    with pytest.raises(ConfigError, match="cannot describe a set"):
        describe({1, 2}, is_tensor=lambda value: False)
