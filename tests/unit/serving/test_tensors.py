"""Tensors of the protocol: values and raw bytes to arrays, and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeflow.errors import ConfigError
from edgeflow.graph.ir import NUMPY_DTYPES
from edgeflow.serving.tensors import TensorInfo, from_raw, from_values, leaves, to_raw, to_values

INFO = TensorInfo("x", "FP32", (2, 2))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_json_says_nothing_that_it_has_no_word_for(value: float) -> None:
    with pytest.raises(ConfigError, match="not finite"):
        to_values(INFO, np.full((2, 2), value, np.float32))


@pytest.mark.parametrize(
    ("datatype", "value"), [("INT8", 128), ("UINT8", -1), ("INT64", 2**63), ("INT32", 1.5), ("BOOL", 1)]
)
def test_a_value_that_does_not_fit_is_refused(datatype: str, value: Any) -> None:
    with pytest.raises(ConfigError):
        from_values(TensorInfo("x", datatype, (1,)), [value])


def test_large_integers_keep_every_digit() -> None:
    info = TensorInfo("x", "INT64", (2,))
    values = [2**63 - 1, -(2**63)]
    assert to_values(info, from_values(info, values)) == values


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "int8", "bool"])
def test_raw_bytes_come_back(dtype: str) -> None:
    names = {"float32": "FP32", "bfloat16": "BF16", "float16": "FP16", "int8": "INT8", "bool": "BOOL"}
    array = np.array([[0, 1], [1, 1]]).astype(NUMPY_DTYPES[dtype])
    info = TensorInfo("x", names[dtype], (2, 2))
    found = from_raw(info, to_raw(array))
    assert found.dtype == array.dtype and np.array_equal(found, array)
    with pytest.raises(ConfigError, match=f"takes {info.num_bytes:,} bytes, got {info.num_bytes - 1:,}"):
        from_raw(info, to_raw(array)[:-1])


def test_a_raw_bool_is_0_or_1() -> None:
    with pytest.raises(ConfigError, match="neither 0 nor 1"):
        from_raw(TensorInfo("x", "BOOL", (2,)), b"\x01\x02")


def test_nested_values_are_flattened_in_order() -> None:
    assert np.array_equal(from_values(INFO, [[1, 2], [3, 4.5]]), np.array([[1, 2], [3, 4.5]], np.float32))


def test_leaves_are_the_tensors_in_order() -> None:
    a, b, c = (np.zeros(size) for size in (1, 2, 3))
    assert [leaf.size for leaf in leaves({"a": a, "more": (b, None, [c, 7, "x"])})] == [1, 2, 3]
