"""Restore torch's number of threads, which is one setting for the whole process."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def threads_restored() -> Iterator[None]:
    """Restore torch's number of threads at the end, if torch is loaded at the start."""
    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch is not None else 0
    try:
        yield
    finally:
        if torch is not None:
            torch.set_num_threads(before)
