"""Cluster files: YAML for people, checked key by key.

name: home
source: nuc                 # where requests arrive; default: the first device
network: {bandwidth: 1 Gbit/s, latency: 0.2 ms}
devices:
  nuc: {speed: 60 GFLOP/s, memory: 8 GiB}
  pi4: {speed: 9 GFLOP/s, memory: 2 GiB, memory_bandwidth: 3 GB/s}
links:                      # pairs that differ; both directions unless one_way is true
  - {between: [nuc, pi4], bandwidth: 100 Mbit/s, latency: 2 ms}
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from edgeflow.cluster.cluster import (
    REFERENCE_FLOPS_PER_SECOND,
    REFERENCE_MEMORY_BANDWIDTH,
    Cluster,
    Device,
    Link,
)
from edgeflow.errors import ConfigError
from edgeflow.units import (
    parse_bandwidth,
    parse_bytes,
    parse_flops_per_second,
    parse_seconds,
    parse_watts,
)


def load_cluster(path: Path) -> Cluster:
    """Read a cluster file.

    Raises:
        ConfigError: If the file is missing, is not YAML, or has an unknown key or a wrong value; the
            message names the file and the key.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read cluster file {path}: {error.strerror or error}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {error}") from error
    try:
        return parse_cluster(data, default_name=path.stem)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def parse_cluster(data: Any, *, default_name: str = "cluster") -> Cluster:
    """Build a cluster from what a cluster file holds, parsed."""
    top = _mapping(
        data, "cluster file", required={"devices", "network"}, optional={"name", "source", "links"}
    )
    devices = _mapping(top["devices"], "devices")
    links = top.get("links") or []
    if not isinstance(links, list):
        raise ConfigError(f"links: expected a list, got {type(links).__name__}")
    return Cluster(
        name=_text(top.get("name", default_name), "name"),
        devices=tuple(_device(name, value) for name, value in devices.items()),
        network=_link(_mapping(top["network"], "network", required={"bandwidth", "latency"}), "network"),
        links=tuple(pair for index, value in enumerate(links) for pair in _pair(value, f"links[{index}]")),
        source=_text(top.get("source", ""), "source"),
    )


def _device(name: object, value: Any) -> Device:
    what = f"devices.{name}"
    keys = _mapping(
        value,
        what,
        required={"speed", "memory"},
        optional={"memory_bandwidth", "overhead", "power_idle", "power_compute"},
    )
    flops_per_second = parse_flops_per_second(keys["speed"], what=f"{what}.speed")
    relative = flops_per_second / REFERENCE_FLOPS_PER_SECOND
    return Device(
        name=str(name),
        flops_per_second=flops_per_second,
        memory_bytes=parse_bytes(keys["memory"], what=f"{what}.memory"),
        # A device that says nothing of its memory is taken to be as slow there as it is in arithmetic.
        memory_bandwidth_bytes_per_s=parse_bandwidth(
            keys.get("memory_bandwidth", relative * REFERENCE_MEMORY_BANDWIDTH),
            what=f"{what}.memory_bandwidth",
        ),
        overhead_s=parse_seconds(keys.get("overhead", 10e-6), what=f"{what}.overhead"),
        power_idle_w=parse_watts(keys.get("power_idle", 0.0), what=f"{what}.power_idle"),
        power_compute_w=parse_watts(keys.get("power_compute", 0.0), what=f"{what}.power_compute"),
    )


def _link(keys: Mapping[str, Any], what: str) -> Link:
    return Link(
        bandwidth_bytes_per_s=parse_bandwidth(keys["bandwidth"], what=f"{what}.bandwidth"),
        latency_s=parse_seconds(keys["latency"], what=f"{what}.latency"),
    )


def _pair(value: Any, what: str) -> tuple[tuple[str, str, Link], ...]:
    keys = _mapping(value, what, required={"between", "bandwidth", "latency"}, optional={"one_way"})
    between = keys["between"]
    if not isinstance(between, list) or len(between) != 2:
        raise ConfigError(f"{what}.between: expected two device names, got {between!r}")
    a, b = (str(name) for name in between)
    link = _link(keys, what)
    if keys.get("one_way", False):
        return ((a, b, link),)
    return ((a, b, link), (b, a, link))


def _mapping(
    value: Any, what: str, *, required: set[str] | None = None, optional: set[str] | None = None
) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"{what}: expected keys and values, got {type(value).__name__}")
    if required is None:
        return value
    known = required | (optional or set())
    for key in value:
        if key not in known:
            raise ConfigError(f"{what}: unknown key {key!r}; known keys: {', '.join(sorted(known))}")
    for key in sorted(required):
        if key not in value:
            raise ConfigError(f"{what}: missing key {key!r}")
    return value


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise ConfigError(f"{what}: expected text, got {value!r}")
    return value
