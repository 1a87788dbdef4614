"""How much longer workers take that share a machine, while all of them compute."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any, Final

from edgeflow.errors import ConfigError
from edgeflow.plan.plan import Plan
from edgeflow.runtime.coordinator.deployment import deploy
from edgeflow.runtime.coordinator.session import Session
from edgeflow.runtime.security import Access

#: Rounds that count; one before them does not.
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
    """Return `CostModel.contention`: how many times as long a request takes the first of some workers while
    the others answer requests, too; 1 if it takes no longer, or there are no others.

    Cores of one machine share caches and the way to memory, sometimes the core itself.

    Args:
        plan: Of a whole model on one device; every worker runs it.
        workers: ``HOST:PORT`` of workers on one machine.
        args: Inputs, as the module takes them.
        kwargs: Keyword inputs, as the module takes them.
        rounds: Of one request alone and one beside others; medians count.
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
    alone_s, beside_s = [], []
    with ExitStack() as held:
        first, *others = [held.enter_context(deploy(plan, [each], access=access)) for each in workers]
        if not others:
            return 1.0
        for number in range(rounds + 1):
            alone = _seconds(first, args, named)
            with _answering(others, args, named):
                beside = _seconds(first, args, named)
            if number:
                alone_s.append(alone)
                beside_s.append(beside)
    return max(1.0, statistics.median(beside_s) / statistics.median(alone_s))


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
