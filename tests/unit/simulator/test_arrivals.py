"""When requests arrive: by hand, by the mean, by the seed, and what is wrong with a trace."""

from __future__ import annotations

import itertools
import statistics
from pathlib import Path

import pytest

from edgeflow.errors import ConfigError
from edgeflow.simulator import ClosedLoop, Every, Poisson, Recorded, parse_arrivals


def test_regular_arrivals_begin_at_zero() -> None:
    assert list(Every(0.5).times(3)) == [0.0, 0.5, 1.0]


def test_poisson_gaps_have_the_mean_and_the_spread_of_an_exponential() -> None:
    times = [0.0, *Poisson(20.0, seed=3).times(20_000)]
    gaps = [b - a for a, b in itertools.pairwise(times)]

    # The standard error of the mean is 1/20/sqrt(20,000), 0.7 %.
    assert statistics.fmean(gaps) == pytest.approx(1 / 20, rel=0.03)
    assert statistics.pstdev(gaps) == pytest.approx(1 / 20, rel=0.05)


def test_the_same_seed_gives_the_same_gaps_and_another_one_others() -> None:
    assert list(Poisson(5.0, seed=1).times(10)) == list(Poisson(5.0, seed=1).times(10))
    assert list(Poisson(5.0, seed=1).times(10)) != list(Poisson(5.0, seed=2).times(10))


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("closed", ClosedLoop(1)),
        ("closed:4", ClosedLoop(4)),
        ("every:20ms", Every(0.02)),
        ("poisson:20/s", Poisson(20.0, seed=7)),
        ("poisson:120/min", Poisson(2.0, seed=7)),
    ],
)
def test_texts(text: str, meaning: object) -> None:
    assert parse_arrivals(text, seed=7) == meaning


def test_a_recorded_trace(tmp_path: Path) -> None:
    file = tmp_path / "arrivals.txt"
    file.write_text("# seconds\n0\n100 ms  # the second\n\n2.5\n")

    made = parse_arrivals(f"trace:{file}")

    assert isinstance(made, Recorded)
    assert made.times_s == (0.0, 0.1, 2.5)
    with pytest.raises(ConfigError, match=r"arrivals\.txt ended at 2\.5 s with request 3, 5 were asked for"):
        made.times(5)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("often", "unknown kind 'often'"),
        ("closed:x", "expected closed:N"),
        ("closed:0", "at least 1, got 0"),
        ("poisson:x/s", "expected a rate such as"),
        ("poisson:0/s", "must be positive and finite, got 0/s"),
        ("poisson:1/week", "unknown unit 'week'"),
        ("every:-1 s", r"interval_s must not be negative, got -1"),
        ("trace:nowhere.txt", "cannot read the trace of arrivals nowhere.txt"),
    ],
)
def test_texts_that_mean_nothing(text: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        parse_arrivals(text)


@pytest.mark.parametrize(
    ("content", "problem"),
    [("", "is empty"), ("2\n1\n", "1 s follows 2 s"), ("soon\n", r"a\.txt:1: cannot read 'soon'")],
)
def test_traces_that_are_wrong(content: str, problem: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(content)

    with pytest.raises(ConfigError, match=problem):
        Recorded.load(tmp_path / "a.txt")
