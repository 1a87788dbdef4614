"""torch's number of threads is a setting of the process; code that changes it restores it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def threads_restored() -> Iterator[None]:
    """Put the number of torch's threads back as it was, where torch is loaded."""
    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch is not None else 0
    try:
        yield
    finally:
        if torch is not None:
            torch.set_num_threads(before)
