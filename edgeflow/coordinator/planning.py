"""Planning beside the keeper: a planner may take seconds, and a worker may be lost meanwhile."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

from edgeflow.plan import Plan
from edgeflow.threads import Crew, Threads

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Answer(NamedTuple, Generic[T]):
    """What came of the latest question.

    Attributes:
        about: As it was given to `Planning.ask`.
        made: The plan, or what the planner raised.
    """

    about: T
    made: Plan | Exception


class Planning(Generic[T]):
    """Asks a planner, on threads of its own. The latest question counts; answers to others are dropped.

    Its methods are called from one thread.

    Args:
        on_answer: Called when there is an answer to take, from any thread; must return soon.
    """

    def __init__(self, threads: Threads, on_answer: Callable[[], None]) -> None:
        self._crew = Crew(threads, "edgeflow-planner")
        self._lock = threads.lock()
        self._on_answer = on_answer
        self._number = 0
        self._asked: T | None = None
        self._answer: Answer[T] | None = None

    @property
    def asked(self) -> T | None:
        """What the question is about that has no answer yet."""
        return self._asked

    def ask(self, about: T, make: Callable[[], Plan]) -> None:
        """Have a plan made; whatever was asked before is forgotten."""
        with self._lock:
            self._number += 1
            number = self._number
            self._asked, self._answer = about, None

        def run() -> None:
            made: Plan | Exception
            try:
                made = make()
            except Exception as error:  # the planner may be the caller's own
                made = error
            with self._lock:
                if number != self._number:
                    return
                self._asked, self._answer = None, Answer(about, made)
            self._on_answer()

        self._crew.start(run)

    def take(self) -> Answer[T] | None:
        """Return the answer to the latest question, once."""
        with self._lock:
            answer, self._answer = self._answer, None
        return answer

    def forget(self) -> None:
        """Drop the latest question."""
        with self._lock:
            self._number += 1
            self._asked = self._answer = None

    def join(self) -> None:
        """Wait for the planner."""
        self._crew.join()
