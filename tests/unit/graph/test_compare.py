"""Differences between answers: never smaller than they are, whatever the answers look like."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgeflow.graph.compare import compare


def test_equal_answers_do_not_differ() -> None:
    answer = (torch.ones(2, 3), {"logits": np.arange(4.0)}, None)
    difference = compare(answer, answer)

    assert difference.passed
    assert (difference.absolute, difference.relative, difference.num_tensors) == (0, 0, 2)
    assert difference.largest_value == 3


def test_relative_is_to_the_largest_value_of_the_same_tensor() -> None:
    """A wrong small output is not excused by a large one beside it."""
    ours = [np.array([1000.0]), np.array([0.011])]
    theirs = [np.array([1000.0]), np.array([0.010])]
    difference = compare(ours, theirs)

    assert difference.absolute == pytest.approx(0.001)
    assert difference.relative == pytest.approx(0.1)
    assert not difference.passed


def test_an_output_of_zeros_is_compared_absolutely() -> None:
    assert compare(np.array([1e-5]), np.array([0.0])).relative == pytest.approx(1e-5)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (np.array([np.nan, 1]), np.array([1.0, 1])),
        (np.array([1.0, 1]), np.array([np.nan, 1])),
        (np.array([np.inf]), np.array([-np.inf])),
        (np.array([np.inf]), np.array([3.0])),
        (np.zeros((2, 1)), np.zeros((1, 2))),
        (np.zeros((1, 2)), np.zeros(2)),
        ((np.zeros(1),), (np.zeros(1), np.zeros(1))),
        ((np.zeros(1), np.zeros(1)), (np.zeros(1),)),
        ((), (np.zeros(1),)),
        ((np.zeros(1),), ()),
    ],
)
def test_what_cannot_be_compared_is_infinitely_far(ours: Any, theirs: Any) -> None:
    difference = compare(ours, theirs, tolerance=1e9)

    assert difference.relative == np.inf
    assert not difference.passed


def test_the_same_infinities_and_nans_agree() -> None:
    value = np.array([np.inf, -np.inf, np.nan, 2.0])

    assert compare(value, value.copy()).relative == 0


def test_bfloat16_and_integers_are_compared_as_numbers() -> None:
    assert compare(torch.ones(3, dtype=torch.bfloat16), np.ones(3)).passed
    assert compare(np.array([1, 200], dtype=np.uint8), np.array([2, 200])).absolute == 1


def test_fields_of_a_dataclass_are_outputs() -> None:
    @dataclass
    class Output:
        logits: Any
        nothing: None = None

    assert compare(Output(np.ones(2)), Output(np.ones(2))).num_tensors == 1


def test_it_says_pass_or_fail_with_the_numbers() -> None:
    assert str(compare(np.array([2.0]), np.array([2.0]))).startswith("PASS: largest difference 0")
    text = str(compare(np.array([2.5]), np.array([2.0])))
    assert text.startswith("FAIL")
    for number in ("0.5", "0.25", "2", "0.0001"):
        assert number in text


@given(st.lists(st.floats(-1e6, 1e6), min_size=1), st.floats(1e-3, 1e3))
def test_a_shift_is_found_whole(values: list[float], shift: float) -> None:
    reference = np.array(values)

    assert compare(reference + shift, reference).absolute == pytest.approx(shift, rel=1e-3)
