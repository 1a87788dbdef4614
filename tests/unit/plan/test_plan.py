"""A plan is a decision and how it was weighed, under one set of names."""

from __future__ import annotations

import math

import pytest

from edgeflow.plan import Candidate, Figures, Plan
from edgeflow.plan import decision as decision_module
from tests.unit.plan.tiny import mlp, plan, stage, whole


@pytest.fixture
def made() -> Plan:
    return plan(mlp(), stage("all", [op.name for op in mlp().operators], whole(mlp(), "relu_1", 0)))


def test_it_has_the_names_of_both(made: Plan) -> None:
    decision, weighed = made.decision, made.weighed

    for name in "graph cluster stages replicas activations programs ways fingerprint devices".split():
        assert getattr(made, name) is getattr(decision, name) or name == "devices"
    assert made.devices == decision.devices == (0,)
    for name in "strategy objective deadline_s candidates chosen figures".split():
        assert getattr(made, name) is getattr(weighed, name)


def test_unknown_figures_are_nan(made: Plan) -> None:
    names = ("predicted_latency_s", "predicted_period_s", "predicted_energy_j", "lower_bound_s")
    assert all(math.isnan(getattr(made, name)) for name in names)

    known = made.reweighed(figures=Figures(1.0, 2.0, 3.0), lower_bound_s=0.5)

    assert [getattr(known, name) for name in names] == [1.0, 2.0, 3.0, 0.5]


def test_weighing_again_lowers_nothing_again(made: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise AssertionError("lowered again")

    programs = made.programs
    monkeypatch.setattr(decision_module, "lower", refuse)

    again = made.reweighed(strategy="other", candidates=(Candidate("a", Figures(1.0)),))

    assert again.programs is programs
    assert again.fingerprint == made.fingerprint
    assert (again.strategy, made.strategy) == ("other", "by hand")


def test_a_plan_in_one_line(made: Plan) -> None:
    assert repr(made.reweighed(figures=Figures(0.25))) == (
        "Plan('Sequential', strategy='by hand', 1 stages on 1 devices, 250.0 ms)"
    )
