"""Futures of requests, as sessions and batchers both use them."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping
from concurrent.futures import Future, InvalidStateError
from typing import Any, Final

from edgeflow.errors import ConfigError
from edgeflow.graph.ir import Array, ModelGraph
from edgeflow.graph.structure import unflatten_outputs
from edgeflow.plan import Plan
from edgeflow.threads import SYSTEM, Threads

#: Requests that may wait for a worker; one more is refused.
MAX_WAITING: Final = 1024


def check_timeout(timeout_s: float | None) -> None:
    """Raise `ConfigError` if ``timeout_s`` is not positive."""
    if timeout_s is not None and timeout_s <= 0:
        raise ConfigError(f"timeout_s must be positive, got {timeout_s:g}")


def answer_of(future: Future[Any], threads: Threads = SYSTEM) -> Any:
    """Wait for an answer; the request is cancelled if waiting is interrupted."""
    try:
        return threads.result(future)
    except BaseException:
        future.cancel()
        raise


def default_in_flight(plan: Plan) -> int:
    """Return how many requests keep the workers of a plan busy."""
    return max(4, 2 * len(plan.ways))


def in_order(
    items: Iterable[Any],
    submit: Callable[[tuple[Any, ...], Mapping[str, Any]], Future[Any]],
    limit: int,
    threads: Threads = SYSTEM,
) -> Generator[Any, None, None]:
    """Yield the answers to ``items`` in order, ``limit`` of them under way; leaving early cancels those."""
    pending: deque[Future[Any]] = deque()
    try:
        for item in items:
            pending.append(submit(*arguments_of(item)))
            if len(pending) == limit:
                yield threads.result(pending.popleft())
        while pending:
            yield threads.result(pending.popleft())
    finally:
        for future in pending:
            future.cancel()


def settle(future: Future[Any] | None, *, result: Any = None, error: BaseException | None = None) -> None:
    """Give a future its outcome, unless it was cancelled."""
    if future is None:
        return
    with contextlib.suppress(InvalidStateError):
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)


def settle_answer(future: Future[Any] | None, graph: ModelGraph, outputs: Mapping[str, Array]) -> None:
    """Give a future the module's return value."""
    try:
        answer = unflatten_outputs(graph, outputs)
    except Exception as error:  # the caller's own output type may raise
        settle(future, error=error)
    else:
        settle(future, result=answer)


def arguments_of(item: Any) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
    """Return the arguments that an item of a stream stands for: one, all positional, or keyword ones."""
    if isinstance(item, tuple):
        return item, {}
    if isinstance(item, dict):
        return (), item
    return (item,), {}
