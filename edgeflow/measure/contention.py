"""Measure the slowdown of workers that share a machine while all of them compute."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any, Final

from edgeflow.coordinator.deployment import deploy
from edgeflow.coordinator.session import Session
from edgeflow.errors import ConfigError
from edgeflow.net.security import Access
from edgeflow.plan.plan import Plan

#: Timed rounds, after one to warm up.
_ROUNDS: Final = 5


def measure_contention(
    plan: Plan,
    workers: Sequence[str],
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    rounds: int = _ROUNDS,
    access: Access | None = None,
) -> float:
    """Return `CostModel.contention`: how many times as long a request takes workers of one machine while
    all of them answer requests; 1 if it takes no longer, or there is one only.

    Cores of one machine share caches and the way to memory, sometimes the core itself. What devices compute
    side by side is done when the last of them is: in each round the worker counts that was delayed the most.

    Args:
        plan: Of a whole model on one device; every worker runs it.
        workers: ``HOST:PORT`` of workers on one machine.
        args: Inputs, as the module takes them.
        kwargs: Keyword inputs, as the module takes them.
        rounds: Of a request to each worker alone, and one beside the others; medians count.
        access: Certificates and join token to show to the workers.

    Raises:
        ConfigError: If the plan is one of several devices, or there is no round.
        WorkerUnreachableError: If a worker is not there.
    """
    if len(plan.cluster.devices) != 1:
        raise ConfigError(f"a plan of one device is measured, this one has {len(plan.cluster.devices)}")
    if rounds < 1:
        raise ConfigError(f"at least one round is measured, got {rounds}")
    named = dict(kwargs or {})
    with ExitStack() as held:
        sessions = [held.enter_context(deploy(plan, [each], access=access)) for each in workers]
        if len(sessions) < 2:
            return 1.0
        alone_s: list[list[float]] = []
        beside_s: list[list[float]] = []
        for _ in range(rounds + 1):
            alone_s.append([_seconds(session, args, named) for session in sessions])
            beside_s.append([_seconds_beside(session, sessions, args, named) for session in sessions])
    usual_s = [statistics.median(seconds) for seconds in zip(*alone_s[1:], strict=True)]
    delays = [
        max(beside / usual for beside, usual in zip(seconds, usual_s, strict=True))
        for seconds in beside_s[1:]
    ]
    return max(1.0, float(statistics.median(delays)))


def _seconds_beside(
    session: Session, sessions: Sequence[Session], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> float:
    with _answering([other for other in sessions if other is not session], args, kwargs):
        return _seconds(session, args, kwargs)


def _seconds(session: Session, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> float:
    start_s = time.perf_counter()
    session.run(*args, **kwargs)
    return time.perf_counter() - start_s


@contextmanager
def _answering(
    sessions: Sequence[Session], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Iterator[None]:
    """Each of these answers one request after another meanwhile."""
    is_done = threading.Event()

    def go_on(session: Session) -> None:
        while not is_done.is_set():
            session.run(*args, **kwargs)

    with ThreadPoolExecutor(len(sessions)) as pool:
        answering = [pool.submit(go_on, session) for session in sessions]
        try:
            yield
        finally:
            is_done.set()
        for each in answering:
            each.result()
