"""Checks of a cluster's parts; error messages show the wrong value."""

from __future__ import annotations

import math
from collections.abc import Sequence

from edgeflow.cluster.device import Device
from edgeflow.cluster.network import Link, Segment
from edgeflow.dtypes import DTYPE_BITS
from edgeflow.errors import ConfigError


def check_parts(
    name: str,
    devices: Sequence[Device],
    network: Link | None,
    links: Sequence[tuple[str, str, Link | None]],
    segments: Sequence[Segment],
) -> None:
    """Check the parts of a cluster, each by itself and against the devices' names.

    Raises:
        ConfigError: If there are no devices; two devices share a name, or two links a pair; a quantity is not
            positive or not finite; a rate has an unknown dtype; a link or a segment names an unknown
            device; or a device is in two media or two uplinks.
    """
    if not devices:
        raise ConfigError(f"cluster {name!r} has no devices")
    known = [device.name for device in devices]
    for device in devices:
        if known.count(device.name) > 1:
            raise ConfigError(
                f"cluster {name!r}: {known.count(device.name)} devices are called {device.name!r}"
            )
    for device in devices:
        _check_device(device)
    if network is not None:
        _check_link(network, "network")
    _check_links(links, known)
    _check_segments(segments, known)


def _check_device(device: Device) -> None:
    what = f"device {device.name!r}"
    for key in ("flops_per_second", "memory_bytes", "memory_bandwidth_bytes_per_s"):
        _positive(getattr(device, key), f"{what}: {key}")
    for dtype, rate in device.rates or ():
        if dtype not in DTYPE_BITS:
            raise ConfigError(
                f"{what}: no dtype {dtype!r} for a rate; known: {', '.join(sorted(DTYPE_BITS))}"
            )
        if dtype == "float32":
            raise ConfigError(f"{what}: the rate of float32 is flops_per_second (`speed`), not one of rates")
        _positive(rate, f"{what}: rates[{dtype!r}]")
    for key in ("upload_bytes_per_s", "download_bytes_per_s"):
        if getattr(device, key) is not None:
            _positive(getattr(device, key), f"{what}: {key}")
    for key in (
        "overhead_s",
        "power_idle_w",
        "power_compute_w",
        "joules_per_flop",
        "joules_per_byte_sent",
        "joules_per_byte_received",
    ):
        _not_negative(getattr(device, key), f"{what}: {key}")


def _check_link(link: Link, what: str) -> None:
    _positive(link.bandwidth_bytes_per_s, f"{what}: bandwidth_bytes_per_s")
    _not_negative(link.latency_s, f"{what}: latency_s")


def _check_links(links: Sequence[tuple[str, str, Link | None]], known: Sequence[str]) -> None:
    seen = set()
    for a, b, link in links:
        _check_known(a, known)
        _check_known(b, known)
        if a == b:
            raise ConfigError(f"link {a}->{b}: a device needs no link to itself")
        if (a, b) in seen:
            count = sum((x, y) == (a, b) for x, y, _ in links)
            raise ConfigError(f"link {a}->{b} is given {count} times")
        seen.add((a, b))
        if link is not None:
            _check_link(link, f"link {a}->{b}")


def _check_known(name: str, known: Sequence[str]) -> None:
    if name not in known:
        raise ConfigError(f"no device {name!r}; devices: {', '.join(known)}")


def _check_segments(segments: Sequence[Segment], known: Sequence[str]) -> None:
    names = [segment.name for segment in segments]
    home: dict[tuple[str, str], Segment] = {}
    for segment in segments:
        what = f"{segment.kind} {segment.name!r}"
        if names.count(segment.name) > 1:
            raise ConfigError(f"{names.count(segment.name)} media or uplinks are called {segment.name!r}")
        if not segment.members:
            raise ConfigError(f"{what} has no members")
        _positive(segment.bandwidth_bytes_per_s, f"{what}: bandwidth_bytes_per_s")
        _not_negative(segment.latency_s, f"{what}: latency_s")
        for member in segment.members:
            _check_known(member, known)
            other = home.setdefault((segment.kind, member), segment)
            if other != segment:
                raise ConfigError(
                    f"device {member!r} is a member of 2 {_plural(segment.kind)}: "
                    f"{other.name!r} and {segment.name!r}"
                )
        if len(set(segment.members)) != len(segment.members):
            raise ConfigError(f"{what} names a member twice: {', '.join(segment.members)}")


def _plural(kind: str) -> str:
    return "media" if kind == "medium" else "uplinks"


def _positive(value: float, what: str) -> None:
    if not (value > 0 and math.isfinite(value)):
        raise ConfigError(f"{what} must be positive and finite, got {value:g}")


def _not_negative(value: float, what: str) -> None:
    if not (value >= 0 and math.isfinite(value)):
        raise ConfigError(f"{what} must be finite and not negative, got {value:g}")
