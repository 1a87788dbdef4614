"""Helpers of rules."""

from __future__ import annotations

import pytest

from edgeflow.errors import InvalidPlanError
from edgeflow.graph.ir import Operator, TensorRef, TensorSpec
from edgeflow.sharding.rules.base import broadcast, localised, normal_dim
from tests.unit.sharding.rules.operators import box

SPECS = {name: TensorSpec(shape=(2, 3)) for name in "ab"}
OP = Operator(
    name="op",
    target="aten.cat.default",
    arguments=(("tensors", (TensorRef("a"), TensorRef("b"))), ("dim", 0)),
    outputs=("y",),
)


def test_tensors_that_are_not_changed_are_read_whole_also_inside_lists() -> None:
    step = localised(OP, SPECS, dim=1)

    assert [item.region for item in dict(step.arguments)["tensors"]] == [box((0, 2), (0, 3))] * 2
    assert dict(step.arguments)["dim"] == 1


def test_an_unknown_argument_is_refused() -> None:
    with pytest.raises(InvalidPlanError, match="no arguments"):
        localised(OP, SPECS, axis=1)


def test_broadcast_dims_of_one_element_are_read_by_all() -> None:
    assert broadcast(box((0, 1), (4, 6), (1, 2)), TensorSpec(shape=(1, 3))) == box((0, 1), (1, 2))
    assert (normal_dim(-1, 3), normal_dim(1, 3)) == (2, 1)
