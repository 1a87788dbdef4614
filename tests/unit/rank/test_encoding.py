"""Activations made narrower and back: how far off they are at most, and what cannot be carried."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeflow.errors import ConfigError, InvalidPlanError
from edgeflow.graph.ir import Array
from edgeflow.plan.encoding import BLOCK, ENCODINGS, check_encoding, wire_bytes, wire_spec
from edgeflow.rank.encoding import decode, encode

SHAPES = st.lists(st.integers(1, 40), max_size=3).map(tuple)


def values(shape: tuple[int, ...], seed: int, exponent: float) -> Array:
    return (np.random.default_rng(seed).standard_normal(shape) * 10**exponent).astype(np.float32)


def limit(array: Array, encoding: str) -> Array:
    """The largest error of each value that the encoding promises."""
    if encoding == "float16":
        return np.maximum(np.abs(array) * 2.0**-11, 2.0**-25)
    flat = np.abs(array.reshape(-1))
    largest = [flat[start : start + BLOCK].max() for start in range(0, flat.size, BLOCK)]
    return np.repeat(largest, BLOCK)[: flat.size].reshape(array.shape) / 254


@given(shape=SHAPES, seed=st.integers(0, 99), exponent=st.floats(-3, 3), encoding=st.sampled_from(ENCODINGS))
@settings(max_examples=200, deadline=None)
def test_the_error_is_within_what_is_promised(
    shape: tuple[int, ...], seed: int, exponent: float, encoding: str
) -> None:
    array = values(shape, seed, exponent)

    payload = encode(array, encoding, "x")
    found = decode(payload, encoding, shape)

    assert (payload.shape, str(payload.dtype)) == wire_spec(shape, "float32", encoding)
    assert payload.nbytes == wire_bytes(shape, "float32", encoding)
    assert (found.shape, found.dtype) == (array.shape, array.dtype)
    assert np.all(np.abs(found - array) <= limit(array, encoding) * (1 + 1e-5))


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("array", [np.zeros((3, 100), np.float32), np.zeros((0, 4), np.float32)])
def test_zeros_and_nothing(encoding: str, array: Array) -> None:
    assert np.array_equal(decode(encode(array, encoding, "x"), encoding, array.shape), array)


def test_blocks_have_scales_of_their_own() -> None:
    """A large value costs its neighbours their precision, and nobody else."""
    array = np.full(2 * BLOCK, 0.01, np.float32)
    array[0] = 100.0

    found = decode(encode(array, "int8", "x"), "int8", array.shape)

    assert found[1] == 0
    assert found[BLOCK:] == pytest.approx(0.01, rel=1e-3)


def test_int8_takes_about_a_quarter() -> None:
    assert wire_bytes((64, 128), "float32", "int8") / wire_bytes((64, 128), "float32", "") < 0.26


def test_values_beyond_float16_are_refused_with_their_size() -> None:
    with pytest.raises(InvalidPlanError, match=r"'x' has values of 7e\+04, float16 ends at 65,504"):
        encode(np.array([1.0, 7e4], np.float32), "float16", "x")


def test_infinities_pass_as_float16_and_not_as_int8() -> None:
    array = np.array([1.0, -np.inf], np.float32)

    assert np.array_equal(decode(encode(array, "float16", "x"), "float16", array.shape), array)
    with pytest.raises(InvalidPlanError, match="'x' has values that are not finite"):
        encode(array, "int8", "x")


def test_an_unknown_encoding() -> None:
    with pytest.raises(ConfigError, match="no encoding 'int4' of activations; known: float16, int8"):
        check_encoding("int4")
