"""Requests and answers as bytes: decoded, encoded, or refused."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeflow.errors import ConfigError
from edgeflow.serving.messages import (
    Request,
    choose_outputs,
    decode_request,
    encode_answer,
    timeout_of,
)
from edgeflow.serving.tensors import TensorInfo

INFO = TensorInfo("x", "FP32", (2, 2))


@given(body=st.binary(max_size=200), length=st.none() | st.text(max_size=4))
def test_noise_is_refused(body: bytes, length: str | None) -> None:
    with pytest.raises(ConfigError):
        decode_request(body, length, (INFO,), (INFO,))


_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=12,
)


@given(
    item=st.fixed_dictionaries(
        {"name": st.sampled_from(["x", "y"]), "datatype": st.sampled_from(["FP32", "INT8"]), "shape": _json},
        optional={"data": _json, "parameters": _json},
    )
)
def test_json_of_any_kind_is_answered_or_refused(item: dict[str, Any]) -> None:
    body = json.dumps({"inputs": [item]}).encode()
    try:
        request = decode_request(body, None, (INFO,), (INFO,))
    except ConfigError:
        return
    assert request.inputs["x"].shape == (2, 2) and request.inputs["x"].dtype == np.float32


ARRAY = np.arange(4, dtype=np.float32).reshape(2, 2)


def test_raw_tensors_follow_the_json_in_the_order_of_the_request() -> None:
    """Two outputs, of which one is raw: it is behind the JSON, whose length is returned."""
    outputs = (INFO, TensorInfo("y", "INT64", (1,)))
    request = Request(id="7", inputs={}, outputs=outputs, binary=frozenset({"x"}), timeout_s=None)
    body, length = encode_answer("double", "1", request, {"x": ARRAY, "y": np.array([2**62])})
    assert length is not None and body[length:] == ARRAY.tobytes()
    answer = json.loads(body[:length])
    assert answer["id"] == "7" and answer["outputs"][1]["data"] == [2**62]
    assert answer["outputs"][0]["parameters"] == {"binary_data_size": 16}


def test_outputs_are_chosen_once_and_in_order() -> None:
    x, y = INFO, TensorInfo("y", "FP32", (1,))
    assert choose_outputs(["y", "x", "y"], (x, y)) == (y, x)
    assert choose_outputs([], (x, y)) == (x, y)
    with pytest.raises(ConfigError, match="there is no output 'z'; there are: x, y"):
        choose_outputs(["z"], (x, y))


@pytest.mark.parametrize(
    ("value", "seconds"), [(1500, 0.0015), ("2000000", 2.0), (0, None), ("0", None), (None, None)]
)
def test_a_timeout_is_in_microseconds(value: Any, seconds: float | None) -> None:
    assert timeout_of({"timeout": value}) == seconds


@pytest.mark.parametrize("value", [-1, True, 1.5, "1e3", "", [1]])
def test_other_timeouts_are_refused(value: Any) -> None:
    with pytest.raises(ConfigError, match="must be a number of microseconds"):
        timeout_of({"timeout": value})
