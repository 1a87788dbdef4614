"""Cases to measure in each dtype: only those that the back end runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeflow.cost.kernels import Sample
from edgeflow.cost.work import PRODUCTS, Work, work_of
from edgeflow.errors import UnsupportedOperatorError
from edgeflow.kernels import make_executor
from edgeflow.measure.cases import product_cases
from edgeflow.measure.device import condense
from edgeflow.measure.kernels import kernel_of


class _Lacking:
    name = "lacking"

    def prepare(self, program: Any, weights: Mapping[Any, Any], hashes: Any = None) -> Any:
        raise UnsupportedOperatorError("no such kernel", operator="operator")


def test_products_are_measured_in_a_dtype_that_the_back_end_runs() -> None:
    works = [work_of(kernel_of(case)) for case in product_cases("bfloat16", make_executor("torch"))]

    assert {work.family for work in works} == PRODUCTS
    assert {work.dtype for work in works} == {"bfloat16"}


def test_a_dtype_that_the_back_end_lacks_is_not_measured() -> None:
    assert product_cases("bfloat16", _Lacking()) == []


def test_a_profile_has_the_rates_of_measured_dtypes_only() -> None:
    def sample(dtype: str, seconds: float) -> Sample:
        return Sample(Work(family="conv", flops=10**8, output_bytes=10**6, dtype=dtype), seconds)

    made = condense("box", [sample("float32", 0.1), sample("bfloat16", 0.05)])

    assert made.flops_per_second == 1e9
    assert made.rates == (("bfloat16", 2e9),)
