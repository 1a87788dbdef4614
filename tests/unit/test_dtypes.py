"""Sizes of dtypes: whole bytes, and two 4-bit elements to a byte."""

from __future__ import annotations

import pytest

from edgeflow.dtypes import DTYPE_BITS, FLOATS, bytes_of
from edgeflow.graph.ir import NUMPY_DTYPES


@pytest.mark.parametrize("name", sorted(NUMPY_DTYPES))
def test_dtypes_of_arrays_are_as_large_as_numpys(name: str) -> None:
    assert DTYPE_BITS[name] == 8 * NUMPY_DTYPES[name].itemsize
    assert bytes_of(7, name) == 7 * NUMPY_DTYPES[name].itemsize


@pytest.mark.parametrize(("count", "expected"), [(0, 0), (1, 1), (2, 1), (3, 2), (1024, 512)])
def test_packed_elements_share_bytes(count: int, expected: int) -> None:
    assert bytes_of(count, "int4") == bytes_of(count, "uint4") == expected


def test_floats_are_the_dtypes_that_numpy_or_ml_dtypes_call_floats() -> None:
    assert {name for name in NUMPY_DTYPES if "float" in name} == FLOATS
