"""A profile's terms: fitted to what was measured, and never falling when a kernel does more."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeflow.cluster.profile import DeviceProfile, FamilyCost
from edgeflow.cost.kernels import (
    Sample,
    family_s,
    features,
    fit_families,
    fit_family,
    non_negative_least_squares,
    profile_s,
)
from edgeflow.cost.work import Work

TERMS = (("call", 2e-5), ("flop", 1e-11), ("weight_byte", 3e-10), ("output_byte", 1e-10))


def work(family: str = "linear", *, rows: int = 8, inner: int = 64, columns: int = 64) -> Work:
    """A product of rows x inner by inner x columns, in fp32."""
    return Work(
        family=family,
        flops=2 * rows * inner * columns,
        weight_bytes=4 * inner * columns,
        input_bytes=4 * rows * inner,
        output_bytes=4 * rows * columns,
        inner=inner,
        columns=columns,
    )


def samples(count: int = 60, noise: float = 0.0) -> list[Sample]:
    random = np.random.default_rng(0)
    made = []
    for _ in range(count):
        rows, inner, columns = (int(size) for size in 2 ** random.uniform(2, 10, 3))
        item = work(rows=rows, inner=inner, columns=columns)
        exact = sum(seconds * features(item)[name] for name, seconds in TERMS)
        made.append(Sample(item, exact * float(np.exp(random.normal(0, noise)))))
    return made


def profile(*families: FamilyCost) -> DeviceProfile:
    return DeviceProfile(
        name="x",
        flops_per_second=1e9,
        memory_bandwidth_bytes_per_s=1e8,
        memory_bytes=1 << 30,
        families=families,
        copy_s=1e-6,
        copy_s_per_byte=1e-9,
    )


def test_terms_are_found_again() -> None:
    cost = fit_family("linear", samples())

    assert dict(cost.terms) == pytest.approx(dict(TERMS), rel=1e-6)
    assert (cost.num_samples, cost.median_error) == (60, pytest.approx(0, abs=1e-9))


def test_noise_shows_as_error() -> None:
    cost = fit_family("linear", samples(noise=0.2))

    assert 0.05 < cost.median_error < 0.25
    assert dict(cost.terms)["weight_byte"] == pytest.approx(3e-10, rel=0.5)


def test_a_slice_that_reads_whole_weights_is_dearer_than_its_share() -> None:
    """The defect of scaling by FLOPs alone, which this model is there to mend."""
    cost = FamilyCost(family="linear", terms=TERMS)
    whole, tenth = (family_s(cost, work(rows=rows, inner=2048, columns=2048)) for rows in (20, 2))

    assert tenth > 2 * whole / 10


def test_families_are_fitted_apart() -> None:
    found = fit_families([*samples(), Sample(Work(family="view"), 1e-6)])

    assert [item.family for item in found] == ["linear", "view"]
    assert dict(found[1].terms) == {"call": pytest.approx(1e-6)}


def test_nothing_to_fit() -> None:
    with pytest.raises(ValueError, match="family 'conv': nothing was measured"):
        fit_family("conv", [])


def test_a_family_that_was_not_measured_has_a_roofline() -> None:
    item = work("attention")

    assert profile_s(profile(), item) == pytest.approx(1e-6 + max(item.flops / 1e9, item.num_bytes / 1e8))


sizes = st.integers(1, 512)


@given(
    rows=sizes,
    inner=sizes,
    columns=sizes,
    more=st.integers(1, 64),
    dim=st.sampled_from(("rows", "inner", "columns")),
)
def test_more_work_never_takes_less_time(rows: int, inner: int, columns: int, more: int, dim: str) -> None:
    shape = {"rows": rows, "inner": inner, "columns": columns}
    larger = {**shape, dim: shape[dim] + more}
    cost = FamilyCost(family="linear", terms=(*TERMS, ("block_flop", 1e-11)))

    assert 0 < family_s(cost, work(**shape)) <= family_s(cost, work(**larger)) * (1 + 1e-12)


@given(st.integers(0, 2**32 - 1))
def test_fitted_terms_are_never_negative(seed: int) -> None:
    random = np.random.default_rng(seed)
    noisy = [Sample(item.work, float(item.seconds * random.uniform(0.2, 5))) for item in samples(15)]

    assert all(seconds > 0 for _, seconds in fit_family("linear", noisy).terms)


@given(st.integers(0, 2**32 - 1))
def test_the_solver_satisfies_the_conditions_of_an_optimum(seed: int) -> None:
    """Karush, Kuhn, Tucker: no gradient along free terms, none that would help along those at zero."""
    random = np.random.default_rng(seed)
    matrix, target = random.normal(size=(12, 5)), random.normal(size=12)

    x = non_negative_least_squares(matrix, target)

    gradient = matrix.T @ (target - matrix @ x)
    assert (x >= 0).all()
    assert np.abs(gradient[x > 0]).max(initial=0.0) < 1e-8
    assert gradient[x == 0].max(initial=0.0) < 1e-8


def test_each_dtype_has_a_fit_and_a_missing_one_uses_that_of_fp32_with_its_own_bytes() -> None:
    terms = (("weight_byte", 1e-9),)
    single, half = (
        FamilyCost(family="linear", terms=terms),
        FamilyCost(family="linear", dtype="bfloat16", terms=(("flop", 1.0),)),
    )
    profile = DeviceProfile(
        name="box",
        flops_per_second=1e9,
        memory_bandwidth_bytes_per_s=1e9,
        memory_bytes=1,
        families=(half, single),
        rates=(("bfloat16", 2e9),),
    )

    assert profile_s(profile, Work(family="linear", flops=3, dtype="bfloat16")) == 3.0
    assert profile_s(profile, Work(family="linear", weight_bytes=100, dtype="float16")) == pytest.approx(1e-7)
    unmeasured = Work(family="gelu", flops=10**9, dtype="bfloat16")
    assert profile_s(profile, unmeasured) == pytest.approx(0.5)


def test_samples_of_two_dtypes_are_fitted_apart() -> None:
    both = [Sample(Work(family="conv", flops=10, dtype=dtype), 1e-3) for dtype in ("float32", "bfloat16")]

    assert [(item.family, item.dtype) for item in fit_families(both)] == [
        ("conv", "bfloat16"),
        ("conv", "float32"),
    ]
