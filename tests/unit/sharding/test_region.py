"""The algebra of boxes, counted element by element."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeflow.sharding.region import Interval, Region, split_interval, subtract_all

_SIZE = 7


@st.composite
def intervals(draw: st.DrawFn) -> Interval:
    """Inside ``[0, 7)``; empty now and then."""
    start = draw(st.integers(0, _SIZE))
    return Interval(start, draw(st.integers(start, _SIZE)))


def regions(num_dims: int) -> st.SearchStrategy[Region]:
    return st.builds(Region, st.tuples(*[intervals()] * num_dims))


@st.composite
def several(draw: st.DrawFn, *, count: int) -> list[Region]:
    num_dims = draw(st.integers(0, 3))
    return [draw(regions(num_dims)) for _ in range(count)]


def mask(region: Region) -> np.ndarray:
    """Which elements of a tensor of 7 in every dim the box holds."""
    held = np.zeros([_SIZE] * len(region), dtype=bool)
    held[tuple(slice(start, stop) for start, stop in region.intervals)] = True
    return held


def count(pieces: tuple[Region, ...], num_dims: int) -> np.ndarray:
    """How often each element is held."""
    return sum((mask(piece).astype(int) for piece in pieces), np.zeros([_SIZE] * num_dims, dtype=int))


@given(several(count=1))
def test_the_number_of_elements_is_counted(drawn: list[Region]) -> None:
    (a,) = drawn

    assert a.num_elements == mask(a).sum()
    assert a.is_empty == (a.num_elements == 0)
    assert int(np.prod(a.shape, dtype=int)) == a.num_elements


@given(several(count=2))
def test_an_intersection_holds_what_both_hold(drawn: list[Region]) -> None:
    a, b = drawn

    assert (mask(a.intersect(b)) == (mask(a) & mask(b))).all()


@given(several(count=2))
def test_a_hull_is_the_smallest_box_that_holds_both(drawn: list[Region]) -> None:
    a, b = drawn
    hull = a.hull(b)

    assert hull.contains(a)
    assert hull.contains(b)
    if a.is_empty or b.is_empty:
        assert hull.num_elements == max(a.num_elements, b.num_elements)
        return
    union = mask(a) | mask(b)
    for dim, (start, stop) in enumerate(hull.intervals):
        hit = np.flatnonzero(union.any(axis=tuple(other for other in range(union.ndim) if other != dim)))
        assert (start, stop) == (hit[0], hit[-1] + 1)


@given(several(count=2))
def test_a_box_contains_another_when_it_holds_all_its_elements(drawn: list[Region]) -> None:
    a, b = drawn

    assert a.contains(b) == bool((mask(a) | ~mask(b)).all())


@given(several(count=2))
def test_a_difference_is_disjoint_and_exact(drawn: list[Region]) -> None:
    a, b = drawn
    pieces = a.subtract(b)

    assert (count(pieces, len(a)) == (mask(a) & ~mask(b)).astype(int)).all()
    assert not any(piece.is_empty for piece in pieces)
    assert len(pieces) <= max(1, 2 * len(a))


@given(several(count=5))
def test_what_several_boxes_leave_is_disjoint_and_exact(drawn: list[Region]) -> None:
    a, *others = drawn
    held = np.logical_or.reduce([mask(other) for other in others])
    pieces = subtract_all(a, others)

    assert (count(pieces, len(a)) == (mask(a) & ~held).astype(int)).all()


@given(several(count=2))
def test_slices_take_a_box_out_of_the_buffer_of_another(drawn: list[Region]) -> None:
    a, b = drawn
    inner = a.intersect(b)
    tensor = np.arange(_SIZE ** len(a)).reshape([_SIZE] * len(a))

    def take(region: Region) -> np.ndarray:
        return tensor[tuple(slice(start, stop) for start, stop in region.intervals)]

    if not inner.is_empty:
        assert (take(b)[inner.slices(b)] == take(inner)).all()


def test_a_scalar_is_one_element_without_dims() -> None:
    scalar = Region.full(())

    assert scalar.num_elements == 1
    assert not scalar.is_empty
    assert scalar.is_full(())
    assert scalar.subtract(scalar) == ()
    assert str(scalar) == "[]"


def test_a_region_is_full_only_if_every_dim_is() -> None:
    assert Region.full((2, 3)).is_full((2, 3))
    assert not Region.of([(0, 2), (1, 3)]).is_full((2, 3))
    assert not Region.of([(0, 2), (0, 2)]).is_full((2, 3))


def test_regions_of_different_dims_do_not_mix() -> None:
    with pytest.raises(ValueError, match="zip"):
        Region.full((2, 3)).intersect(Region.full((2,)))


shares = st.lists(st.floats(0, 100, allow_subnormal=False), min_size=1, max_size=6).filter(
    lambda drawn: sum(drawn) > 0
)


@given(st.integers(0, 300), shares, st.integers(1, 9))
def test_a_split_covers_the_dim_in_proportion(size: int, drawn: list[float], multiple: int) -> None:
    parts = split_interval(size, drawn, multiple=multiple)

    assert len(parts) == len(drawn)
    assert parts[0].start == 0
    assert parts[-1].stop == size
    assert all(left.stop == right.start for left, right in pairwise(parts))
    for part, share in zip(parts, drawn, strict=True):
        assert part.start % multiple == 0 or part.start == size
        assert abs(part.length - size * share / sum(drawn)) <= multiple + 1e-6
        if share == 0:
            assert part.length == 0


@pytest.mark.parametrize("drawn", [[], [0.0, 0.0], [1.0, -0.5]])
def test_shares_that_say_nothing_are_refused(drawn: list[float]) -> None:
    with pytest.raises(ValueError, match="shares must be non-negative with a positive sum"):
        split_interval(8, drawn)


def test_a_device_without_a_share_gets_nothing_even_of_the_rest() -> None:
    """Five rows in units of four leave one; it belongs to the last device that takes part."""
    assert split_interval(5, [1.0, 0.0], multiple=4) == (Interval(0, 5), Interval(5, 5))
