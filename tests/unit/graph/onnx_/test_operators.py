"""Every ONNX operator that there is a function for, against ONNX Runtime."""

from __future__ import annotations

import inspect

import pytest

from edgeflow.graph.onnx_.node import NEWEST_OPSET
from edgeflow.graph.onnx_.ops import find, operations, window
from tests.unit.graph.onnx_.families import CASES
from tests.unit.graph.onnx_.onnx_cases import Case, answers, captured, module_answers, onnx

#: Attributes that change nothing about the outputs that are supported, and so are not looked at.
_WITHOUT_EFFECT = {
    "consumed_inputs",  # a hint for memory in the oldest opsets
    "extrapolation_value",  # of a mode that is refused
    "is_test",  # files are for inference
    "kernel_shape",  # of a convolution: its weight has one
    "momentum",  # for training
    "qk_matmul_output_mode",  # of an output that is refused
    "ratio",  # of a Dropout that is none
    "round_mode",  # of dtypes that are refused
    "saturate",  # likewise
    "seed",
    "softmax_precision",  # at least that of the inputs
    "sorted",  # "in any order" may be in order
    "sparse_value",  # constants that are refused by what they are not
    "stash_type",  # torch sums up half precision in single precision
    "storage_order",  # of an output that is refused
    "value_string",
    "value_strings",
}


def _first_of_each_operation() -> list[Case]:
    """One case for each function: capturing takes a hundred times as long as running."""
    found = {}
    for case in CASES:
        operation = find(case.op_type, domain=case.domain, opset=case.opset)
        found.setdefault(operation, case)
    return list(found.values())


@pytest.mark.parametrize("case", CASES, ids=str)
def test_an_operator_computes_what_others_compute(case: Case) -> None:
    case.compare(module_answers(case.model, case.given))


@pytest.mark.parametrize("case", _first_of_each_operation(), ids=str)
def test_a_captured_operator_computes_what_others_compute(case: Case) -> None:
    case.compare(answers(captured(case.model), case.given))


def test_every_operator_has_a_case() -> None:
    drawn = {
        (case.domain, case.op_type, find(case.op_type, domain=case.domain, opset=case.opset))
        for case in CASES
    }
    left = [
        (domain, op_type, item.since)
        for domain, op_type, item in operations()
        if (domain, op_type, item) not in drawn
    ]

    assert not left


def test_every_attribute_of_the_standard_is_read_or_has_no_effect() -> None:
    """An attribute that is overlooked makes wrong answers: a new opset must not add one unseen."""
    unread = set()
    for schema in onnx.defs.get_all_schemas_with_history():
        operation = find(schema.name, domain=schema.domain, opset=schema.since_version)
        if operation is None or schema.since_version > NEWEST_OPSET:
            continue
        module = inspect.getmodule(operation.function)
        assert module is not None
        source = inspect.getsource(module) + inspect.getsource(window)
        left = {name for name in schema.attributes if f'"{name}"' not in source} - _WITHOUT_EFFECT
        unread |= {(schema.name, schema.since_version, name) for name in left}

    # Quantised convolutions pass theirs on; before opset 7 matrices were broadcast as torch does anyhow.
    unread -= {("ConvInteger", 10, "group"), ("QLinearConv", 10, "group")}
    unread -= {("Gemm", 1, "broadcast"), ("Gemm", 6, "broadcast")}
    assert not unread


def test_every_input_of_the_standard_is_taken() -> None:
    left = set()
    for schema in onnx.defs.get_all_schemas_with_history():
        operation = find(schema.name, domain=schema.domain, opset=schema.since_version)
        if operation is not None and not operation.is_variadic:
            names = [item.name for item in schema.inputs[len(operation.parameters) :]]
            left |= {(schema.name, schema.since_version, name) for name in names}

    assert not left
