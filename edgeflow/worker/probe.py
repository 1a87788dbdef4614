"""A fixed piece of work that shows how fast an idle device is."""

from __future__ import annotations

import time
from typing import Final

import numpy as np

#: The longest that a probe may go on.
MAX_PROBE_S: Final = 1.0

#: Side of the matrices: a product takes milliseconds on a small board, and they fit its cache.
_SIDE: Final = 192


def probe_s(duration_s: float) -> float:
    """Multiply matrices for ``duration_s``; return the mean seconds of one product.

    The mean is over the whole time, since a processor under a quota runs at full speed until the quota of the
    period is used up.
    """
    a = np.full((_SIDE, _SIDE), 0.5, np.float32)
    count = 0
    started_s = time.monotonic()
    while True:
        a @ a
        count += 1
        elapsed_s = time.monotonic() - started_s
        if elapsed_s >= duration_s:
            return elapsed_s / count
