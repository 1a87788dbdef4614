"""Waiting for what other threads and processes do."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def eventually(condition: Callable[[], bool], *, timeout_s: float = 10.0) -> bool:
    """Return whether the condition came true in time."""
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline_s:
            return False
        time.sleep(0.02)
    return True


def in_threads(
    function: Callable[[Item], Result], items: Iterable[Item], *, timeout_s: float = 60.0
) -> list[Result]:
    """Return what the function makes of each item, each on a thread of its own; raise what one raises."""
    todo = list(items)
    with ThreadPoolExecutor(len(todo)) as pool:
        return list(pool.map(function, todo, timeout=timeout_s))
