"""Has the C library return large freed arrays to the system at once.

A worker's memory should be what its plan says. By default glibc keeps freed arrays of up to 32 MiB for later
ones: unused memory, but resident. Measured with torch on a plan of 60 MiB whose arrays have 20 to
32 MiB: 222 MiB without this, 62 MiB with it. Small arrays are kept, because a page that comes back from the
system has to be cleared first: with a threshold of 128 KiB ResNet-50 on torch took twice the processor time,
with this one as much as without any (its arrays have 3 MiB at most).
"""

from __future__ import annotations

import ctypes
import logging
import os
from typing import Final

logger = logging.getLogger(__name__)

#: Numbers of parameters in glibc's ``malloc.h``.
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3

#: Arrays from this size on are mapped one by one, and unmapped when they are freed.
MMAP_THRESHOLD_BYTES: Final = 8 << 20

#: Free memory at the end of a heap that is kept. Set too: with the other one set alone glibc would give back
#: all but 128 KiB each time.
TRIM_THRESHOLD_BYTES: Final = 64 << 20

#: The user has decided if one of these is set.
_VARIABLES: Final = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES")


def return_large_arrays() -> bool:
    """Set the threshold of this process's C library; return whether it was set, which only glibc supports."""
    if not _is_glibc() or any(name in os.environ for name in _VARIABLES):
        return False
    mallopt = ctypes.CDLL(None).mallopt
    # Another allocator, loaded before glibc's, may lack these parameters; it then returns 0.
    is_set = bool(mallopt(_M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES)) and bool(
        mallopt(_M_TRIM_THRESHOLD, TRIM_THRESHOLD_BYTES)
    )
    logger.debug("malloc.set", extra={"mmap_threshold_bytes": MMAP_THRESHOLD_BYTES, "is_set": is_set})
    return is_set


def _is_glibc() -> bool:
    try:
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
    except (AttributeError, ValueError, OSError):  # another system, or another C library
        return False
