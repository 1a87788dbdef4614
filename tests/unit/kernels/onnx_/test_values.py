"""Torch's type promotion, without torch."""

from __future__ import annotations

from itertools import product

import pytest
import torch

pytest.importorskip("onnx")

from edgeflow.kernels.onnx_.values import ONNX_DTYPES, Value, promote, result_dtype

_SHAPES: tuple[tuple[int, ...], ...] = ((), (2,))


def test_promotion_is_torchs() -> None:
    for first, second in product(ONNX_DTYPES, repeat=2):
        expected = torch.promote_types(getattr(torch, first), getattr(torch, second))
        assert f"torch.{promote(first, second)}" == str(expected)


def test_dtypes_of_arithmetic_are_torchs() -> None:
    for (first, left), (second, right) in product(product(ONNX_DTYPES, _SHAPES), repeat=2):
        a = torch.zeros(left, dtype=getattr(torch, first))
        b = torch.zeros(right, dtype=getattr(torch, second))
        made = result_dtype(Value("a", left, first), Value("b", right, second))
        assert f"torch.{made}" == str(torch.result_type(a, b))
