"""A noisy level with outliers and steps: what is noise, and what is news."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeflow.balancer.series import RECENT, Series


def noisy(rng: random.Random, level: float, *, sigma: float, outliers: float) -> float:
    """A logarithm of a duration: normal noise, and now and then up to 20 times as long."""
    late = math.log(rng.uniform(2, 20)) if rng.random() < outliers else 0.0
    return level + rng.gauss(0, sigma) + late


@pytest.mark.parametrize(
    ("sigma", "outliers"), [(0.0, 0.0), (0.05, 0.05), (0.2, 0.0), (0.2, 0.05), (0.4, 0.0), (0.4, 0.05)]
)
def test_stationary_noise_is_rarely_a_step(sigma: float, outliers: float) -> None:
    """A step drops values, noise drops none. Five standard errors are rarely, but sometimes, exceeded."""
    num_stepped = 0
    for seed in range(60):
        rng, series = random.Random(seed), Series()
        has_stepped = False
        for number in range(1, 301):
            before = len(series)
            series.add(noisy(rng, 1.0, sigma=sigma, outliers=outliers))
            has_stepped |= len(series) < min(before + 1, 101)
            assert len(series) <= number
        num_stepped += has_stepped
        assert abs(series.level - 1.0) < 0.02 + 0.6 * sigma
    assert num_stepped <= 2


@given(st.integers(0, 10_000), st.floats(0.0, 0.2), st.sampled_from([0.4, 1.1, -0.7, 2.3]))
def test_a_step_is_seen_in_as_many_values_as_are_looked_at(seed: int, sigma: float, step: float) -> None:
    rng, series = random.Random(seed), Series()
    if abs(step) < 6 * sigma:
        sigma = abs(step) / 6
    for _ in range(40):
        series.add(noisy(rng, 0.0, sigma=sigma, outliers=0.03))
    for _ in range(RECENT):
        series.add(noisy(rng, step, sigma=sigma, outliers=0.0))
    assert abs(series.level - step) < abs(step) / 3


def test_fewer_than_half_may_be_anything() -> None:
    series = Series()
    for _ in range(20):
        series.add(1.0)
    for _ in range(RECENT // 2):
        series.add(100.0)
    assert series.level == 1.0


def test_drift_is_followed() -> None:
    rng, series = random.Random(1), Series()
    for number in range(2000):
        series.add(noisy(rng, number / 2000, sigma=0.02, outliers=0.02))
    assert series.level == pytest.approx(1.0, abs=0.1)


def test_the_error_says_how_little_is_known() -> None:
    series = Series()
    assert math.isnan(series.level) and math.isinf(series.error)
    for value in (1.0, 1.2, 0.8, 1.1):
        series.add(value)
    assert math.isinf(series.error)
    series.add(0.9)
    few = series.error
    for _ in range(20):
        for value in (1.0, 1.2, 0.8, 1.1, 0.9):
            series.add(value)
    assert series.error < few / 3


def test_outliers_that_come_close_together_leave_the_level_uncertain() -> None:
    """Seven of thirteen, with usual values between them: whatever level that makes, it is not sure."""
    series = Series()
    for _ in range(20):
        series.add(0.0)
    for value in (1.1, 2.1, 0.0, 0.5, 0.0, 1.3, 2.3, 0.0, 2.0, 0.0, 0.0, 0.0, 1.6):
        series.add(value)
    assert series.level - 3 * series.error < 0.1


def test_a_step_between_outliers_is_sure_at_once() -> None:
    series = Series()
    for _ in range(20):
        series.add(0.0)
    for value in (0.0, 2.0, 0.0, 0.0, 1.5, 0.0, 1.1, 1.0, 1.1, 0.9, 1.0, 1.1, 1.0):
        series.add(value)
    assert series.level == 1.0 and series.error < 0.1
