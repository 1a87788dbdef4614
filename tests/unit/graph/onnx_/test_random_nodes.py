"""Random nodes: what edgeflow computes is what ONNX Runtime computes, or it refuses."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from edgeflow.errors import UnsupportedOperatorError
from tests.conftest import SEED
from tests.unit.graph.onnx_.draws import FAMILIES
from tests.unit.graph.onnx_.onnx_cases import Array, Case, assert_near, expected, module_answers

_FEW, _MANY = 15, 400


def _draws(family: str, start: int, count: int) -> Iterator[tuple[Case, dict[str, Array]]]:
    """Yield cases that ONNX Runtime takes, with its answers."""
    for number in range(start, start + count):
        case = FAMILIES[family](np.random.default_rng([SEED, number, sorted(FAMILIES).index(family)]))
        try:
            yield case, expected(case.model, case.given)
        except Exception:  # its classes are those of its C++ side; what it refuses judges nothing
            continue


def _check(family: str, start: int, count: int) -> None:
    compared = 0
    for case, right in _draws(family, start, count):
        try:
            mine = module_answers(case.model, case.given)
        except UnsupportedOperatorError:
            continue
        assert mine.keys() == right.keys(), str(case)
        for name, value in right.items():
            try:
                assert_near(mine[name], np.asarray(value), tolerance=case.tolerance)
            except AssertionError as error:
                raise AssertionError(f"{case} of {[value.shape for value in case.given.values()]}") from error
        compared += 1
    # Almost all: refusing everything must not pass.
    assert compared >= 0.75 * count


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_random_nodes_compute_what_onnx_runtime_does(family: str) -> None:
    _check(family, 0, _FEW)


@pytest.mark.slow
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_many_random_nodes_compute_what_onnx_runtime_does(family: str) -> None:
    _check(family, _FEW, _MANY)
