"""A plan is exchanged while requests are under way, and none is dropped."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import Any

import pytest

from edgeflow.cli.switch import Switch
from edgeflow.errors import ClusterError


class _Session:
    """Answers when it is told to; a closed one fails what is pending, as real ones do."""

    def __init__(self, plan: str) -> None:
        self.plan = plan
        self.futures: list[Future[Any]] = []
        self.is_closed = False

    def submit(self, x: int) -> Future[Any]:
        future: Future[Any] = Future()
        self.futures.append(future)
        return future

    def answer(self) -> None:
        for future in self.futures:
            future.set_result(self.plan)
        self.futures.clear()

    def close(self) -> None:
        self.is_closed = True
        for future in self.futures:
            future.set_exception(ClusterError("the session is closed"))


class _RollingSession(_Session):
    def roll_out(self, plan: str, *, reason: str) -> None:
        self.plan = plan


def _switch(kind: type[_Session] = _Session) -> tuple[Switch, list[_Session]]:
    made: list[_Session] = []

    def deploy(plan: Any) -> _Session:
        made.append(kind(plan))
        return made[-1]

    return Switch("old", deploy), made  # type: ignore[arg-type]


def test_requests_under_way_are_answered_by_the_plan_that_they_met() -> None:
    switch, made = _switch()
    early = switch.submit(1)
    change = threading.Thread(target=switch.roll_out, args=("new", "because"))
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
    assert switch.plan == "new"


def test_a_session_that_can_roll_out_does_it_itself() -> None:
    switch, made = _switch(_RollingSession)

    switch.roll_out("new", "because")  # type: ignore[arg-type]

    assert [session.plan for session in made] == ["new"]
    assert not made[0].is_closed


def test_a_plan_that_cannot_be_deployed_leaves_the_old_one() -> None:
    switch, made = _switch()

    def refuse(plan: Any) -> Any:
        raise ClusterError("no memory")

    switch._deploy = refuse
    with pytest.raises(ClusterError, match="no memory"):
        switch.roll_out("new", "because")  # type: ignore[arg-type]

    future = switch.submit(1)
    made[0].answer()
    assert future.result() == "old"
    assert (switch.plan, switch.reasons) == ("old", [])
