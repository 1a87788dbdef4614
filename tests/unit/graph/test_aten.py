"""From the graph's words to torch's, and no further."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from edgeflow.errors import UnsupportedOperatorError
from edgeflow.graph.aten import evaluate, overload, symbol_value
from edgeflow.graph.ir import Operator, Symbol, TensorRef


def test_an_overload_is_found_by_name() -> None:
    assert overload("aten.add.Tensor") is torch.ops.aten.add.Tensor


@pytest.mark.parametrize("target", ["aten.nothing.default", "aten.add.Nothing"])
def test_an_operator_that_this_torch_lacks(target: str) -> None:
    with pytest.raises(UnsupportedOperatorError, match=f"torch .* has no operator '{target}'") as caught:
        overload(target)

    assert caught.value.operator == target


@pytest.mark.parametrize("target", ["os.system", "prims.add.default", "aten.add", "aten.add.Tensor.more", ""])
def test_names_outside_of_aten_are_not_looked_up(target: str) -> None:
    """A graph comes from a file: what it names must not reach anything else."""
    with pytest.raises(UnsupportedOperatorError, match="is not an ATen overload"):
        overload(target)


def test_symbols_stand_for_values() -> None:
    assert symbol_value(Symbol("float", "-inf")) == -math.inf
    assert math.isnan(symbol_value(Symbol("float", "nan")))
    assert symbol_value(Symbol("dtype", "bfloat16")) is torch.bfloat16
    assert symbol_value(Symbol("layout", "strided")) is torch.strided
    assert symbol_value(Symbol("memory_format", "contiguous_format")) is torch.contiguous_format
    assert symbol_value(Symbol("device", "")) is None


@pytest.mark.parametrize(
    "symbol", [Symbol("dtype", "save"), Symbol("layout", "float32"), Symbol("code", "1")]
)
def test_a_symbol_of_another_kind_is_refused(symbol: Symbol) -> None:
    with pytest.raises(UnsupportedOperatorError, match=f"unknown {symbol.kind} '{symbol.value}'"):
        symbol_value(symbol)


def test_an_operator_is_run_on_arrays() -> None:
    op = Operator(
        name="cat",
        target="aten.cat.default",
        arguments=(("tensors", (TensorRef("a"), TensorRef("b"))), ("dim", 0)),
        outputs=("y",),
    )
    (joined,) = evaluate(op, {"a": np.zeros(2), "b": np.ones(1)})

    assert joined.tolist() == [0.0, 0.0, 1.0]
