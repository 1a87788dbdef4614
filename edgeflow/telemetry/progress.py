"""Progress of long work: the work reports it, and the caller decides how to show it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

#: Called with the amount of work done and the total amount.
Move = Callable[[float, float], None]


class Progress(Protocol):
    """Shows progress; the module `edgeflow.cli.screen` is one."""

    def waiting(self, what: str) -> AbstractContextManager[None]:
        """Show during the context that work of unknown length runs."""

    def bar(self, what: str) -> AbstractContextManager[Move]:
        """Show a bar during the context; the caller moves it."""


class Silent:
    """Shows nothing."""

    def waiting(self, what: str) -> AbstractContextManager[None]:
        return nullcontext()

    def bar(self, what: str) -> AbstractContextManager[Move]:
        return nullcontext(lambda done, total: None)
