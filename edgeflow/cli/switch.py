"""A plan that is served, and can be exchanged for another one while requests are under way.

This is the one place that knows how. A session rolls out other plans of its own graph itself. A plan of
another graph, as a head that has grown makes one, becomes a second session on the same workers: later
requests go there, and the first one is closed when its last request is answered.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self

from edgeflow.plan import Plan

#: Makes a session of a plan.
Deploy = Callable[[Plan], Any]


class Switch:
    """Answers requests by the plan that was rolled out last; no request is dropped. Thread-safe.

    Attributes:
        plan: That later requests go by.
        reasons: Why plans were rolled out, in order.
    """

    def __init__(self, plan: Plan, deploy: Deploy) -> None:
        self.plan = plan
        self.reasons: list[str] = []
        self._deploy = deploy
        self._lock = threading.Lock()
        self._is_idle = threading.Condition(self._lock)
        self._session = deploy(plan)
        self._pending: dict[int, int] = {}

    def submit(self, *args: Any) -> Future[Any]:
        """Begin a request; see `edgeflow.Session.submit`."""
        with self._lock:
            session = self._session
            self._pending[id(session)] = self._pending.get(id(session), 0) + 1
        try:
            future: Future[Any] = session.submit(*args)
        except BaseException:
            self._done(session)
            raise
        future.add_done_callback(lambda _: self._done(session))
        return future

    def _done(self, session: Any) -> None:
        with self._is_idle:
            self._pending[id(session)] -= 1
            self._is_idle.notify_all()

    def roll_out(self, plan: Plan, reason: str) -> None:
        """Return when later requests go by ``plan``, and earlier ones are answered by the plan they met.

        Raises:
            EdgeflowError: If the workers cannot take the plan; the old one goes on.
        """
        if plan.graph.fingerprint == self.plan.graph.fingerprint:
            self._session.roll_out(plan, reason=reason)
        else:
            self._replace(self._deploy(plan))
        self.plan = plan
        self.reasons.append(reason)

    def _replace(self, session: Any) -> None:
        with self._is_idle:
            old, self._session = self._session, session
            self._is_idle.wait_for(lambda: not self._pending.get(id(old)))
            self._pending.pop(id(old), None)
        old.close()

    def close(self) -> None:
        """Close the session; requests without an answer fail."""
        self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
