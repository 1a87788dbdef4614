"""How plans and candidates compare: by figures, under any objective alike."""

from __future__ import annotations

from math import inf

import pytest

from edgeflow.errors import ConfigError
from edgeflow.plan import Candidate, Figures
from edgeflow.planner.objective import KINDS, Objective, mixed_period_s
from tests.unit.plan.tiny import mlp, plan, stage, whole

_FIGURES = Figures(2.0, 3.0, 5.0, further={"top1_error": 0.25})


@pytest.mark.parametrize(
    ("kind", "score"),
    [
        ("latency", (0.0, 2.0, 5.0)),
        ("throughput", (0.0, 3.0, 2.0)),
        ("energy", (0.0, 5.0, 2.0)),
        ("top1_error", (0.0, 0.25, 2.0)),
        ("start_s", (0.0, inf, 2.0)),
    ],
)
def test_the_figure_comes_first_then_the_tie_break(kind: str, score: tuple[float, float, float]) -> None:
    assert Objective(kind).score(Candidate("a", _FIGURES)) == score


def test_plans_and_candidates_compare_alike() -> None:
    made = plan(mlp(), stage("all", [op.name for op in mlp().operators], whole(mlp(), "relu_1", 0)))

    for kind in KINDS:
        objective = Objective.of(kind, 1.5)
        assert objective.score(made.reweighed(figures=_FIGURES)) == objective.score(Candidate("a", _FIGURES))
        assert objective.score(made) == (inf, inf, inf)


def test_a_missed_deadline_outweighs_the_figure() -> None:
    late, kept = Candidate("late", Figures(2.0, 1.0, 0.1)), Candidate("kept", Figures(1.0, 9.0, 9.0))

    objective = Objective.of("energy", 1.5)

    assert objective.score(late)[0] == 0.5
    assert objective.score(kept) < objective.score(late)


@pytest.mark.parametrize(
    ("kind", "deadline_s", "says"),
    [
        ("speed", None, "no objective 'speed'"),
        ("top1_error", None, "known: latency, throughput, energy"),
        ("latency", 0.0, "positive"),
        ("latency", inf, "finite"),
    ],
)
def test_what_users_may_not_ask_for(kind: str, deadline_s: float | None, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Objective.of(kind, deadline_s)


def test_requests_are_shared_out_so_that_the_busiest_resource_is_least_busy() -> None:
    period_s, fractions = mixed_period_s([{"a": 1.0, "b": 0.5}, {"b": 1.0}])

    assert period_s == pytest.approx(2 / 3)
    assert fractions == pytest.approx((2 / 3, 1 / 3))
