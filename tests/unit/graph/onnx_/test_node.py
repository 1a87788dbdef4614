"""Attributes of nodes, and which function implements an operator in which opset."""

from __future__ import annotations

import pytest

from edgeflow.errors import CodecError, UnsupportedOperatorError
from edgeflow.graph.onnx_.node import Node
from edgeflow.graph.onnx_.ops import find, operations

NODE = Node(op_type="Conv", name="stem", opset=17, attributes={"group": 2, "pads": (1, 1)}, outputs=("y", ""))


def test_attributes_are_checked_for_their_type() -> None:
    assert NODE.integer("group") == 2
    assert NODE.integers("pads") == (1, 1)
    assert NODE.integer("missing", 5) == 5
    with pytest.raises(
        CodecError, match=r"Conv 'stem' \(opset 17\): the attribute 'group' should be a float"
    ):
        NODE.real("group")
    with pytest.raises(CodecError, match="'axis' is missing"):
        NODE.integer("axis")


def test_only_named_outputs_are_wanted() -> None:
    assert [NODE.wants(index) for index in range(3)] == [True, False, False]


def test_a_tensor_that_is_too_large_is_refused() -> None:
    NODE.check_size([2**27])
    with pytest.raises(UnsupportedOperatorError, match="at most 134,217,728 elements"):
        NODE.check_size([2**27, 2])


def test_the_newest_function_that_is_not_newer_than_the_opset_is_found() -> None:
    names = {opset: find("Softmax", domain="", opset=opset) for opset in (1, 12, 13, 20)}

    assert names[1] is names[12]
    assert names[13] is names[20]
    assert names[1] is not names[13]
    assert find("Softmax", domain="elsewhere", opset=13) is None


def test_operations_are_sorted() -> None:
    listed = [(domain, op_type, operation.since) for domain, op_type, operation in operations()]

    assert listed == sorted(listed)
