"""Describe this machine: its processor, load and free memory."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from pathlib import Path

import psutil

from edgeflow.cluster.profile import Conditions
from edgeflow.versions import installed_version


def conditions(threads: int) -> Conditions:
    """Return the machine and its current load, for readers of a profile."""
    return Conditions(
        processor=processor_name(),
        num_cores=os.cpu_count() or 0,
        num_threads=threads,
        torch=installed_version("torch"),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        load=round(psutil.getloadavg()[0], 2),
    )


def processor_name(root: Path = Path("/")) -> str:
    """Return the board's name if it has one (Raspberry Pi, Jetson), else the processor's."""
    try:
        board = (root / "proc/device-tree/model").read_text(encoding="utf-8").rstrip("\0\n ")
        if board:
            return board
    except OSError:
        pass
    try:
        lines = (root / "proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def free_memory_bytes() -> int:
    """Return the bytes of memory available without swapping."""
    return int(psutil.virtual_memory().available)
