"""Planning beside the keeper: the latest question counts, and its answer is taken once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest

from edgeflow.coordinator.planning import Answer, Planning
from edgeflow.errors import InfeasiblePlanError
from edgeflow.plan import Plan
from edgeflow.testing.virtual import VirtualThreads


class World:
    def __init__(self) -> None:
        self.threads = VirtualThreads()
        #: When there was an answer to take.
        self.told: list[float] = []
        self.planning: Planning[str] = Planning(self.threads, lambda: self.told.append(self.threads.now()))

    def planner(self, answer: str | Exception, seconds: float = 1.0) -> Callable[[], Plan]:
        def make() -> Plan:
            self.threads.sleep(seconds)
            if isinstance(answer, Exception):
                raise answer
            return cast(Plan, answer)

        return make


@pytest.fixture
def world() -> World:
    return World()


def test_a_plan_is_made_while_the_asker_goes_on(world: World) -> None:
    world.planning.ask("devices a, b", world.planner("a plan", 5.0))
    assert world.threads.now() == 0.0
    assert (world.planning.asked, world.planning.take()) == ("devices a, b", None)
    world.threads.sleep(6.0)
    assert world.told == [5.0]
    assert world.planning.asked is None
    assert world.planning.take() == Answer("devices a, b", cast(Any, "a plan"))
    assert world.planning.take() is None


@pytest.mark.parametrize("error", [InfeasiblePlanError("no", constraint="devices"), KeyError("own")])
def test_what_the_planner_raises_is_an_answer(world: World, error: Exception) -> None:
    world.planning.ask("x", world.planner(error))
    world.planning.join()
    assert world.planning.take() == Answer("x", error)
    assert world.told == [1.0]


@pytest.mark.parametrize(("first_s", "second_s"), [(5.0, 1.0), (1.0, 5.0)])
def test_the_latest_question_counts_whichever_is_answered_first(
    world: World, first_s: float, second_s: float
) -> None:
    world.planning.ask("first", world.planner("plan 1", first_s))
    world.planning.ask("second", world.planner("plan 2", second_s))
    assert world.planning.asked == "second"
    world.planning.join()
    assert world.told == [second_s]
    assert world.planning.take() == Answer("second", cast(Any, "plan 2"))


def test_a_new_question_drops_an_answer_that_nobody_took(world: World) -> None:
    world.planning.ask("first", world.planner("plan 1"))
    world.threads.sleep(2.0)
    world.planning.ask("second", world.planner("plan 2"))
    assert world.planning.take() is None
    world.planning.join()
    assert world.planning.take() == Answer("second", cast(Any, "plan 2"))


def test_a_question_that_is_forgotten_is_not_answered(world: World) -> None:
    world.planning.ask("x", world.planner("a plan"))
    world.planning.forget()
    assert world.planning.asked is None
    world.planning.join()
    assert world.threads.now() == 1.0  # the planner came to its end all the same
    assert (world.told, world.planning.take()) == ([], None)


def test_an_answer_that_is_forgotten_cannot_be_taken(world: World) -> None:
    world.planning.ask("x", world.planner("a plan"))
    world.planning.join()
    world.planning.forget()
    assert world.planning.take() is None
