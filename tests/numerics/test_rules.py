"""Operator rules against torch: every family goes through one suite, on thousands of random cases.

A case is an operator with random arguments on random tensors. Whatever region a rule is asked for, what its
cut makes must be what the whole operator makes there; and it must make it from nothing but the slices that
it names, since each tensor is given to it as exactly the box that it says it needs.

To run a failure again, use the seed in the report's header: ``EDGEFLOW_TEST_SEED=...``.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import numpy as np
import pytest

from edgeflow.errors import InvalidPlanError
from edgeflow.graph.ir import Array
from edgeflow.kernels.torch_ import TorchExecutor
from edgeflow.sharding.cut import Cut
from edgeflow.sharding.region import Interval, Region
from edgeflow.sharding.rules import RULES, contraction_size, cut
from tests.numerics.cases import Case, Draw, Family, check_equal, draw_case, program_of
from tests.numerics.families import FAMILIES
from tests.numerics.families.pointwise import is_tensor_operator

_NUM_REGIONS = 3
_EXECUTOR = TorchExecutor(threads=1)


@pytest.fixture
def seed(rng: np.random.Generator) -> int:
    return int(rng.integers(2**32))


# The scope of a module groups the tests by family, so that they share its cases.
@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> tuple[str, Family]:
    return request.param, FAMILIES[request.param]


def _cases(family: tuple[str, Family], seed: int) -> Iterator[tuple[Case, Draw]]:
    """Yield each case of a family; a failure in the loop's body is reported by `_reported`."""
    for case, draw in _drawn(family[0], seed):
        yield case, copy.deepcopy(draw)


@lru_cache(maxsize=1)
def _drawn(name: str, seed: int) -> list[tuple[Case, Draw]]:
    row = FAMILIES[name]
    return [draw_case(name, row, seed=seed, index=index) for index in range(row.num_cases)]


@contextmanager
def _reported(case: Case, what: object) -> Iterator[None]:
    """Say which case failed, in full: it can be written down as a test of its own."""
    try:
        yield
    except Exception as error:
        raise AssertionError(f"{what} of\n  {case}\n{type(error).__name__}: {error}") from error


def _run(case: Case, made: Cut) -> Array:
    """Return what a cut makes, by way of the executor, from exactly the boxes that it needs."""
    program, held = program_of(case, made)
    output = len(held)
    _EXECUTOR.prepare(program, {}).compute(0, held)
    return held[output]


def _taken(array: Array, region: Region, within: Region | None = None) -> Array:
    return np.asarray(array[region.slices(within or Region.full(array.shape))])


def _check_shape_of_cut(case: Case, made: Cut, asked: Region) -> None:
    """A cut covers what was asked for, and reads nothing that does not exist."""
    assert made.region.contains(asked)
    assert Region.full(case.shape).contains(made.region)
    for item in made.slices:
        assert not item.region.is_empty, f"an empty slice {item.region} of {item.tensor}"
        assert Region.full(case.specs[item.tensor].shape).contains(item.region), f"{item} lies outside"


def _check_cut(case: Case, asked: Region) -> Cut:
    with _reported(case, asked):
        made = cut(case.op, case.specs, asked)
        _check_shape_of_cut(case, made, asked)
        actual = _run(case, made)
        assert actual.shape == made.region.shape
        check_equal(case, actual, _taken(case.expected, made.region))
    return made


def test_a_region_is_what_the_whole_operator_makes_there(family: tuple[str, Family], seed: int) -> None:
    name, row = family
    num_exact = num_regions = 0
    for case, draw in _cases(family, seed):
        regions = [draw.region(case.shape) for _ in range(_NUM_REGIONS)]
        for asked in dict.fromkeys([*regions, draw.element(case.shape), Region.full(case.shape)]):
            made = _check_cut(case, asked)
            with _reported(case, asked):
                assert made.contraction is None
                assert made.flops > 0 if row.is_arithmetic else made.flops == 0
            num_exact += made.region == asked
            num_regions += 1

    assert num_exact >= row.min_exact * num_regions, f"{name}: {num_exact} of {num_regions} are not widened"


def test_uneven_shares_of_a_dim_cover_the_output(family: tuple[str, Family], seed: int) -> None:
    """One to five devices, some with nothing to do: what they make, put together, is the whole."""
    for case, draw in _cases(family, seed):
        if not case.shape:
            continue
        dim = draw.integer(0, len(case.shape) - 1)
        whole = np.zeros_like(case.expected)
        count = np.zeros(case.shape, dtype=np.int64)
        with _reported(case, f"shares of dim {dim}"):
            for share in draw.split(case.shape[dim]):
                if share.length == 0:
                    continue
                asked = Region.full(case.shape).replace(dim, share)
                made = cut(case.op, case.specs, asked)
                part = _taken(_run(case, made), asked, made.region)
                _taken(whole, asked)[...] = part
                _taken(count, asked)[...] += 1
            assert (count == 1).all()
            check_equal(case, whole, case.expected)


def test_partial_sums_add_up_to_the_whole(family: tuple[str, Family], seed: int) -> None:
    """Each device sums over its own interval; bias and whatever else is added come in exactly once."""
    name, row = family
    num_contracted = 0
    for case, draw in _cases(family, seed):
        size = contraction_size(case.op, case.specs)
        asked = draw.region(case.shape)
        with _reported(case, asked):
            if size is None:
                with pytest.raises(InvalidPlanError, match="partial sums"):
                    cut(case.op, case.specs, asked, Interval(0, 1))
                continue
            num_contracted += 1
            _check_partial_sums(case, asked, draw.split(size))

    can_contract = any(RULES[target].contraction for target in row.targets if target in RULES)
    assert num_contracted > 0 or not can_contract, f"{name} was never contracted"


def _check_partial_sums(case: Case, asked: Region, shares: list[Interval]) -> None:
    total: Array = np.zeros(asked.shape, dtype=np.float64)
    flops = 0
    for share in shares:
        if share.length == 0:
            continue
        made = cut(case.op, case.specs, asked, share)
        _check_shape_of_cut(case, made, asked)
        assert made.contraction == share
        flops += made.flops
        total = total + _taken(_run(case, made), asked, made.region)
    check_equal(case, total.astype(case.expected.dtype), _taken(case.expected, asked))
    assert flops == cut(case.op, case.specs, asked).flops, "partial sums repeat or skip work"


def test_what_cannot_be_asked_for_is_refused(family: tuple[str, Family], seed: int) -> None:
    name, row = family
    case, _ = draw_case(name, row, seed=seed, index=0)
    region = Region.full(case.shape)
    last = len(case.shape) - 1
    if case.shape:
        with pytest.raises(InvalidPlanError, match="empty"):
            cut(case.op, case.specs, region.replace(last, Interval(0, 0)))
        with pytest.raises(InvalidPlanError, match="outside"):
            cut(case.op, case.specs, region.replace(last, Interval(0, case.shape[last] + 1)))
    with pytest.raises(InvalidPlanError, match="dims"):
        cut(case.op, case.specs, Region((*region.intervals, Interval(0, 1))))


def test_every_rule_is_drawn() -> None:
    """A rule that no family draws would be exact by hearsay only."""
    drawn = {target for row in FAMILIES.values() for target in row.targets}
    left = {target for target in RULES.keys() - drawn if is_tensor_operator(target)}

    assert not left, sorted(left)
