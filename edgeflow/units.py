"""Parsing and printing of bytes, seconds, FLOPs and rates. Base units inside, others only at the edges."""

from __future__ import annotations

import math
import re
from typing import Final

from edgeflow.errors import ConfigError

_NUMBER: Final = re.compile(r"^\s*([-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?)\s*([A-Za-zµ/]*)\s*$")

_DECIMAL: Final = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
_BINARY: Final = {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40}

_BYTES: Final = {f"{p}B": f for p, f in {**_DECIMAL, **_BINARY}.items()}
_SECONDS: Final = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9, "min": 60.0, "h": 3600.0}
_BANDWIDTH: Final = {
    **{f"{p}bit/s": f / 8 for p, f in _DECIMAL.items()},
    **{f"{p}bps": f / 8 for p, f in _DECIMAL.items()},
    **{f"{p}B/s": f for p, f in {**_DECIMAL, **_BINARY}.items()},
}
_FLOPS: Final = {f"{p}{name}/s": f for name in ("FLOP", "OP") for p, f in _DECIMAL.items()}
_ENERGY: Final = {"J": 1.0, "mJ": 1e-3, "uJ": 1e-6, "µJ": 1e-6, "nJ": 1e-9, "pJ": 1e-12, "kJ": 1e3}
_POWER: Final = {"W": 1.0, "mW": 1e-3, "kW": 1e3}


def _parse(text: str | float, table: dict[str, float], *, what: str, example: str) -> float:
    if isinstance(text, bool):
        raise ConfigError(f"{what}: {text!r} is not a quantity; write for example {example!r}")
    if isinstance(text, int | float):
        value = float(text)
    else:
        match = _NUMBER.match(str(text))
        if match is None:
            raise ConfigError(f"{what}: cannot read {text!r}; write for example {example!r}")
        number, unit = match.groups()
        if unit == "":
            factor = 1.0
        elif unit in table:
            factor = table[unit]
        else:
            known = ", ".join(u for u in table if u)
            raise ConfigError(f"{what}: unknown unit {unit!r} in {text!r}; known units: {known}")
        value = float(number) * factor
    if not math.isfinite(value):
        raise ConfigError(f"{what}: {text!r} is not a finite quantity; write for example {example!r}")
    return value


def parse_bytes(text: str | float, *, what: str = "size") -> int:
    """Return a number of bytes: ``"4 GiB"`` is 4,294,967,296.

    Raises:
        ConfigError: If the text is not a number, with or without a unit of bytes.

    Examples:
        >>> parse_bytes("1.5 MiB")
        1572864
    """
    return round(_parse(text, _BYTES, what=what, example="4 GiB"))


def parse_seconds(text: str | float, *, what: str = "duration") -> float:
    """Return seconds: ``"0.2 ms"`` is 0.0002."""
    return _parse(text, _SECONDS, what=what, example="0.2 ms")


def parse_bandwidth(text: str | float, *, what: str = "bandwidth") -> float:
    """Return bytes per second: ``"1 Gbit/s"`` is 125,000,000.

    Examples:
        >>> parse_bandwidth("100 Mbit/s")
        12500000.0
    """
    return _parse(text, _BANDWIDTH, what=what, example="1 Gbit/s")


def parse_flops_per_second(text: str | float, *, what: str = "speed") -> float:
    """Return FLOP/s: ``"40 GFLOP/s"`` is 4e10, and so is ``"40 GOP/s"``; 1 multiply-add is 2 FLOPs."""
    return _parse(text, _FLOPS, what=what, example="40 GFLOP/s")


def parse_watts(text: str | float, *, what: str = "power") -> float:
    """Return watts: ``"4 W"`` is 4.0."""
    return _parse(text, _POWER, what=what, example="4 W")


def parse_joules(text: str | float, *, what: str = "energy") -> float:
    """Return joules: ``"20 nJ"`` is 2e-8."""
    return _parse(text, _ENERGY, what=what, example="20 nJ")


def format_bytes(num_bytes: float) -> str:
    """Return a size for people, in binary units: ``1.5 MiB``."""
    value = float(num_bytes)
    for unit in ("B", "KiB", "MiB"):
        if abs(value) < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.2f} GiB"


def format_seconds(seconds: float) -> str:
    """Return a duration for people: ``12.3 ms``."""
    if abs(seconds) >= 1:
        return f"{seconds:.2f} s"
    if abs(seconds) >= 1e-3 or seconds == 0:
        return f"{seconds * 1e3:.1f} ms"
    return f"{seconds * 1e6:.0f} µs"


def format_flops(flops: float) -> str:
    """Return a FLOP count for people: ``8.2 GFLOP``."""
    for factor, unit in ((1e12, "TFLOP"), (1e9, "GFLOP"), (1e6, "MFLOP"), (1e3, "kFLOP")):
        if abs(flops) >= factor:
            return f"{flops / factor:.1f} {unit}"
    return f"{flops:.0f} FLOP"


def format_bandwidth(bytes_per_second: float) -> str:
    """Return a bandwidth for people, in bits: ``100 Mbit/s``."""
    bits = bytes_per_second * 8
    for factor, unit in ((1e9, "Gbit/s"), (1e6, "Mbit/s"), (1e3, "kbit/s")):
        if bits >= factor:
            return f"{bits / factor:.3g} {unit}"
    return f"{bits:.3g} bit/s"
