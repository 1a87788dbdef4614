"""Runs of operators: which measured runs stand for which others."""

from __future__ import annotations

from random import Random

import pytest

from edgeflow.cost import MeasuredRuns, Span
from edgeflow.cost.runs import Part
from edgeflow.errors import ConfigError

#: Six operators of a second each; all together three, halves two each, and one pair across the middle.
RUNS = MeasuredRuns(
    operators=tuple("abcdef"),
    alone_s=(1.0,) * 6,
    spans=(Span(0, 6, 3.0), Span(0, 3, 2.0), Span(3, 6, 1.8), Span(2, 4, 1.5)),
)


def seconds(runs: MeasuredRuns, operators: str) -> float:
    alone = dict(zip(runs.operators, runs.alone_s, strict=True))
    return sum(alone[name] * factor for name, factor in runs.factors(operators).items())


@pytest.mark.parametrize(
    ("operators", "expected"),
    [
        ("abcdef", 3.0),  # measured
        ("abc", 2.0),
        ("def", 1.8),
        ("a", 1.0),
        ("cd", 1.5),
        ("abcd", 3.0),  # as a half and one alone, or as a part of everything
        ("ab", 2.0),  # no more than each alone, and no more than the half that holds them
        ("bcde", 3.0),  # one alone, the pair, one alone would be 3.5, but everything takes 3
        ("bcd", 2.5),
        ("abf", 3.0),  # what does not touch is not together
    ],
)
def test_operators_are_covered_by_the_cheapest_runs(operators: str, expected: float) -> None:
    assert seconds(RUNS, operators) == pytest.approx(expected)


def test_a_measured_run_costs_what_it_took_even_where_its_parts_took_less() -> None:
    """Two measurements differ by noise, and a plan of one stage is to cost what was seen."""
    runs = MeasuredRuns(operators=("a", "b"), alone_s=(1.0, 1.0), spans=(Span(0, 2, 2.1),))

    assert seconds(runs, "ab") == pytest.approx(2.1)


def test_the_time_of_a_run_is_shared_out_in_proportion() -> None:
    runs = MeasuredRuns(operators=("conv", "relu"), alone_s=(3.0, 1.0), spans=(Span(0, 2, 3.0),))

    assert runs.factors(("conv", "relu")) == {"conv": 0.75, "relu": 0.75}
    assert runs.factors(("relu",)) == {"relu": 1.0}


def test_the_order_of_the_question_does_not_matter_and_strangers_have_no_factor() -> None:
    assert dict(RUNS.factors(tuple("fedcba"))) == dict(RUNS.factors(tuple("abcdef")))
    assert RUNS.factors(("x", "y")) == {}
    assert RUNS.factors(()) == {}
    assert set(RUNS.factors(("a", "x"))) == {"a"}


def test_a_run_may_reach_beyond_what_it_covers() -> None:
    """A part takes no longer than all of it: nine cheap ones behind do not make the first one dear."""
    runs = MeasuredRuns(operators=tuple("abcd"), alone_s=(5.0, 5.0, 5.0, 0.1), spans=(Span(0, 4, 6.0),))

    assert runs.cover(0, 3) == [Part(0, 3, pytest.approx(6.0 / 15.0))]


@pytest.mark.parametrize("seed", range(30))
def test_covers_hold_everything_once_and_cost_no_more_than_alone(seed: int) -> None:
    rng = Random(seed)
    count = rng.randint(1, 12)
    alone = tuple(rng.uniform(0.1, 2.0) for _ in range(count))
    spans = []
    for _ in range(rng.randint(0, 20)):
        start = rng.randrange(count)
        stop = rng.randint(start + 1, count)
        spans.append(Span(start, stop, sum(alone[start:stop]) * rng.uniform(0.2, 1.0)))
    runs = MeasuredRuns(operators=tuple(f"o{i}" for i in range(count)), alone_s=alone, spans=tuple(spans))

    for start in range(count):
        for stop in range(start + 1, count + 1):
            parts = runs.cover(start, stop)
            assert [part.start for part in parts] == [start, *(part.stop for part in parts[:-1])]
            assert parts[-1].stop == stop
            total = sum(part.factor * sum(alone[part.start : part.stop]) for part in parts)
            assert total <= sum(alone[start:stop]) * (1 + 1e-9)
            factors = runs.factors(runs.operators[start:stop])
            for name, factor in factors.items():
                assert factor >= runs.least[name] * (1 - 1e-9)  # which the lower bound relies on


@pytest.mark.parametrize(
    ("alone", "span", "message"),
    [
        ((1.0,), Span(0, 2, 1.0), "2 operators have 1 durations"),
        ((1.0, 1.0), Span(1, 3, 1.0), r"run \[1, 3\) is not one of 2 operators"),
        ((1.0, 1.0), Span(1, 1, 1.0), r"run \[1, 1\) is not one of 2 operators"),
        ((1.0, 0.0), Span(0, 2, 1.0), "durations of runs must be positive and finite, got 0"),
        ((1.0, 1.0), Span(0, 2, float("inf")), "must be positive and finite, got inf"),
    ],
)
def test_runs_that_cannot_be(alone: tuple[float, ...], span: Span, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        MeasuredRuns(operators=("a", "b"), alone_s=alone, spans=(span,))
