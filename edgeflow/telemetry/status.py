"""The state of a session as plain data: the session writes it to a file, ``edgeflow top`` shows it."""

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
        ratio: Estimated kernel time / predicted kernel time.
        source: ``kernels`` or ``probe``: the observations that the ratio rests on; ``usual`` without recent
            ones.
        load: Share of recent time in which it computed.
        num_active_requests: Requests that it had begun and not ended when it was last asked.
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
    """One epoch; ``state`` is ``open`` (takes requests) or ``draining`` (ends those in flight)."""

    number: int
    state: str
    devices: tuple[str, ...]
    under_way: int


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """A session at one moment.

    Attributes:
        time_s: Seconds since the session began.
        predicted_s: Predicted latency of the plan.
        latencies_s: Latencies of recent requests, oldest first.
        decisions: Time and explanation of the balancer's recent decisions, oldest first.
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
    """Write a status atomically: a reader sees the previous one or this one, never a part."""
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
        CodecError: If the file holds no status.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Status)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}; does a session write it?") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CodecError(f"{path} holds no status: {error}") from error
