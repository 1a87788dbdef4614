"""A plan is exchanged while requests are under way, and none is dropped."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest

from edgeflow.cli.switch import Switch
from edgeflow.errors import ClusterError


class _Session:
    """Answers when it is told to; a closed one fails what is pending, as real ones do."""

    def __init__(self, plan: Any) -> None:
        self.plan = plan
        self.futures: list[Future[Any]] = []
        self.is_closed = False

    def submit(self, x: int) -> Future[Any]:
        future: Future[Any] = Future()
        self.futures.append(future)
        return future

    def answer(self) -> None:
        for future in self.futures:
            future.set_result(self.plan.name)
        self.futures.clear()

    def close(self) -> None:
        self.is_closed = True
        for future in self.futures:
            future.set_exception(ClusterError("the session is closed"))

    def roll_out(self, plan: Any, *, reason: str) -> None:
        """As real ones do, for their own graph only."""
        assert plan.graph.fingerprint == self.plan.graph.fingerprint
        self.plan = plan


def _plan(name: str, graph: str) -> Any:
    return SimpleNamespace(name=name, graph=SimpleNamespace(fingerprint=graph))


OLD = _plan("old", "small head")
NEW = _plan("new", "grown head")


def _switch() -> tuple[Switch, list[_Session]]:
    made: list[_Session] = []

    def deploy(plan: Any) -> _Session:
        made.append(_Session(plan))
        return made[-1]

    return Switch(OLD, deploy), made


def test_requests_under_way_are_answered_by_the_plan_that_they_met() -> None:
    switch, made = _switch()
    early = switch.submit(1)
    change = threading.Thread(target=switch.roll_out, args=(NEW, "because"))
    change.start()
    while len(made) < 2 or switch._session is not made[1]:
        pass
    late = switch.submit(2)

    assert not made[0].is_closed  # it has a request
    made[0].answer()
    change.join(5)
    made[1].answer()

    assert (early.result(), late.result()) == ("old", "new")
    assert [session.is_closed for session in made] == [True, False]
    assert switch.reasons == ["because"]
    assert switch.plan is NEW


def test_a_session_rolls_out_plans_of_its_own_graph_itself() -> None:
    switch, made = _switch()
    other = _plan("new", "small head")

    switch.roll_out(other, "because")

    assert [session.plan for session in made] == [other]
    assert not made[0].is_closed


def test_a_plan_that_cannot_be_deployed_leaves_the_old_one() -> None:
    switch, made = _switch()

    def refuse(plan: Any) -> Any:
        raise ClusterError("no memory")

    switch._deploy = refuse
    with pytest.raises(ClusterError, match="no memory"):
        switch.roll_out(NEW, "because")

    future = switch.submit(1)
    made[0].answer()
    assert future.result() == "old"
    assert (switch.plan, switch.reasons) == (OLD, [])
