"""What a session is doing now, as plain data: written to a file by the session, shown by ``edgeflow top``."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import msgspec

from edgeflow.errors import CodecError, ConfigError


class DeviceStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One device.

    Attributes:
        is_up: Whether its worker answers.
        is_used: Whether the plan uses it.
        ratio: Times of what the cost model says that its kernels are believed to take.
        source: What that rests on: ``kernels``, ``probe``, or ``usual`` where nothing of late was seen.
        load: Share of the last while that it computed.
        num_active_requests: That it had begun when it was last asked.
    """

    name: str
    address: str
    is_up: bool
    is_used: bool
    ratio: float = 1.0
    source: str = "usual"
    load: float = 0.0
    num_active_requests: int = 0


class EpochStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One epoch: ``open`` takes requests, ``draining`` ends what it has begun."""

    number: int
    state: str
    devices: tuple[str, ...]
    under_way: int


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """A session at one moment.

    Attributes:
        time_s: Seconds since the session began.
        predicted_s: Latency that the plan was predicted to have.
        latencies_s: Of the latest requests, oldest first.
        decisions: What the balancer has weighed last, in words, oldest first; with the time it was.
    """

    time_s: float
    strategy: str
    objective: str
    predicted_s: float
    num_answered: int
    num_replayed: int
    num_under_way: int
    num_waiting: int
    latencies_s: tuple[float, ...] = ()
    devices: tuple[DeviceStatus, ...] = ()
    epochs: tuple[EpochStatus, ...] = ()
    decisions: tuple[tuple[float, str], ...] = ()


def write_status(path: Path, status: Status) -> None:
    """Write a status; whoever reads the file sees a whole one, this or the one before."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(msgspec.json.encode(status))
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def read_status(path: Path) -> Status:
    """Read a status.

    Raises:
        ConfigError: If there is no such file.
        CodecError: If it is none.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Status)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}; does a session write it?") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CodecError(f"{path} holds no status: {error}") from error
