"""The exception tree keeps its promises to callers and to shells."""

from __future__ import annotations

import inspect

import pytest

from edgeflow import errors
from edgeflow.errors import EXIT_CODES, EdgeflowError, InfeasiblePlanError, UnsupportedOperatorError

ALL = [
    value
    for _, value in inspect.getmembers(errors, inspect.isclass)
    if issubclass(value, EdgeflowError) and value.__module__ == errors.__name__
]


@pytest.mark.parametrize("error", ALL, ids=lambda error: error.__name__)
def test_every_class_has_a_known_exit_code_and_a_meaning(error: type[EdgeflowError]) -> None:
    assert error.exit_code in EXIT_CODES
    assert error.exit_code != 0
    assert error.__doc__


@pytest.mark.parametrize("error", ALL, ids=lambda error: error.__name__)
def test_every_class_stands_in_the_tree_at_the_top_of_the_file(error: type[EdgeflowError]) -> None:
    assert errors.__doc__ is not None
    assert error.__name__ in errors.__doc__


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("ConfigError", 3),
        ("GraphError", 1),
        ("InvalidPlanError", 3),
        ("InfeasiblePlanError", 4),
        ("WorkerUnreachableError", 5),
        ("WorkerFailedError", 1),
        ("DeadlineExceededError", 5),
        ("CodecError", 1),
    ],
)
def test_exit_codes_are_a_public_contract(name: str, code: int) -> None:
    assert getattr(errors, name).exit_code == code


def test_wrong_input_is_also_a_value_error() -> None:
    """Callers who know nothing of edgeflow still catch what Python would raise."""
    for name in ("ConfigError", "GraphError", "InvalidPlanError", "CodecError"):
        assert issubclass(getattr(errors, name), ValueError)


def test_an_infeasible_plan_carries_what_binds() -> None:
    error = InfeasiblePlanError("no room", constraint="memory", required=5e9, available=4e9)

    assert (error.constraint, error.required, error.available) == ("memory", 5e9, 4e9)
    assert str(error) == "no room"


def test_an_unsupported_operator_is_named() -> None:
    assert UnsupportedOperatorError("cannot", operator="aten.foo.default").operator == "aten.foo.default"
