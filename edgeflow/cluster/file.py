"""Cluster files: YAML for people, checked key by key.

name: home
source: nuc                 # where requests arrive; default: the first device
network: {bandwidth: 1 Gbit/s, latency: 0.2 ms}    # of all pairs without an entry below, or `none`
devices:
  nuc: {speed: 60 GFLOP/s, memory: 8 GiB}
  pi4: {preset: pi4, memory: 2 GiB}           # a board in round figures, see `edgeflow profile --presets`
  box: {profile: box.json, memory: 6 GiB}     # written there by `edgeflow profile`; a path from this file
  npu: {speed: 60 GFLOP/s, memory: 8 GiB, rates: {int8: 240 GOP/s, bf16: 120 GFLOP/s}}
links:                      # pairs with a link of their own; both directions unless one_way is true
  - {between: [nuc, pi4], bandwidth: 100 Mbit/s, latency: 2 ms}
disconnected:               # pairs without a link, in either direction
  - [pi4, box]
media:                      # shared media: transfers of all members take turns
  wifi: {members: [pi4], bandwidth: 80 Mbit/s, latency: 2 ms, relayed: true}
uplinks:                    # members reach all other devices through one interface
  host1: {members: [nuc, box], bandwidth: 1 Gbit/s}

Further keys of a device: memory_bandwidth, overhead, nic (or upload and download), power_idle,
power_compute, energy_per_flop, energy_per_byte_sent, energy_per_byte_received. Values in the file override
the profile, which overrides the preset.

`speed` is the fp32 rate. `rates` gives the rates of other dtypes by name (int8, uint8, bfloat16 or bf16,
float16 or fp16 ...). A dtype without a rate is assumed to compute at the fp32 rate; a profile has its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from edgeflow.cluster.device import REFERENCE_FLOPS_PER_SECOND, REFERENCE_MEMORY_BANDWIDTH, Device
from edgeflow.cluster.network import Link, Segment
from edgeflow.cluster.presets import PRESETS
from edgeflow.cluster.profile import PROFILE_FORMAT, DeviceProfile
from edgeflow.errors import CodecError, ConfigError
from edgeflow.files import read_json
from edgeflow.units import (
    parse_bandwidth,
    parse_bytes,
    parse_flops_per_second,
    parse_joules,
    parse_seconds,
    parse_watts,
)
from edgeflow.yaml_ import read_yaml

_NO_NETWORK: Final = (None, "none")

#: Short names of dtypes in cluster files.
_SHORT: Final[Mapping[str, str]] = {"bf16": "bfloat16", "fp16": "float16"}

#: Key of a device in a file or a preset -> (field of `Device`, parser).
_QUANTITIES: Final[Mapping[str, tuple[str, Callable[..., float]]]] = {
    "speed": ("flops_per_second", parse_flops_per_second),
    "memory": ("memory_bytes", parse_bytes),
    "memory_bandwidth": ("memory_bandwidth_bytes_per_s", parse_bandwidth),
    "overhead": ("overhead_s", parse_seconds),
    "power_idle": ("power_idle_w", parse_watts),
    "power_compute": ("power_compute_w", parse_watts),
    "energy_per_flop": ("joules_per_flop", parse_joules),
    "energy_per_byte_sent": ("joules_per_byte_sent", parse_joules),
    "energy_per_byte_received": ("joules_per_byte_received", parse_joules),
    "upload": ("upload_bytes_per_s", parse_bandwidth),
    "download": ("download_bytes_per_s", parse_bandwidth),
}


def read_fields(path: Path) -> dict[str, Any]:
    """Return the fields of a `Cluster` from a cluster file.

    Raises:
        ConfigError: If the file, or a profile that it names, is missing, is not YAML (JSON), or has an
            unknown key or a wrong value; the message names the key.
    """
    return parse_fields(read_yaml(path, "cluster file"), default_name=path.stem, folder=path.parent)


def parse_fields(data: Any, *, default_name: str = "cluster", folder: Path = Path()) -> dict[str, Any]:
    """Return the fields of a `Cluster` from a parsed cluster file; profiles are read from ``folder``."""
    top = _mapping(
        data,
        "cluster file",
        required={"devices", "network"},
        optional={"name", "source", "links", "disconnected", "media", "uplinks"},
    )
    devices = _mapping(top["devices"], "devices")
    network = None
    if top["network"] not in _NO_NETWORK:
        network = _link(_mapping(top["network"], "network", required={"bandwidth", "latency"}), "network")
    return {
        "name": _text(top.get("name", default_name), "name"),
        "devices": tuple(_device(name, value, folder) for name, value in devices.items()),
        "network": network,
        "links": (
            *(pair for what, value in _items(top, "links") for pair in _pair(value, what)),
            *(pair for what, value in _items(top, "disconnected") for pair in _no_pair(value, what)),
        ),
        "segments": (*_segments(top, "media", "medium"), *_segments(top, "uplinks", "uplink")),
        "source": _text(top.get("source", ""), "source"),
    }


def _device(name: object, value: Any, folder: Path) -> Device:
    what = f"devices.{name}"
    known = {*_QUANTITIES, "preset", "profile", "nic", "rates"}
    given = dict(_mapping(value, what, required=set(), optional=known))
    preset = _text(given.pop("preset"), f"{what}.preset") if "preset" in given else None
    file = _text(given.pop("profile"), f"{what}.profile") if "profile" in given else None
    if preset is not None and preset not in PRESETS:
        raise ConfigError(f"{what}.preset: no preset {preset!r}; known: {', '.join(PRESETS)}")
    profile = None if file is None else _profile(folder / file, what)
    if profile is not None and "speed" in given:
        raise ConfigError(f"{what}: its speed is measured in {file}; leave out speed, or the profile")
    if profile is not None and "rates" in given:
        raise ConfigError(f"{what}: its rates are measured in {file}; leave out rates, or the profile")
    rates = _rates(given.pop("rates"), f"{what}.rates") if "rates" in given else ()
    _expand_nic(given, what)
    keys = {**_preset_keys(preset), **given}
    fields: dict[str, Any] = {
        _QUANTITIES[key][0]: _QUANTITIES[key][1](text, what=f"{what}.{key}") for key, text in keys.items()
    }
    if profile is not None:
        rates = profile.rates
        fields["flops_per_second"] = profile.flops_per_second
        if "memory_bandwidth" not in given:
            fields["memory_bandwidth_bytes_per_s"] = profile.memory_bandwidth_bytes_per_s
        if "memory" not in given:
            fields["memory_bytes"] = profile.memory_bytes
    for key in ("memory", "speed"):
        if _QUANTITIES[key][0] not in fields:
            raise ConfigError(f"{what}: missing key {key!r}")
    # Without a memory bandwidth, assume that it is in proportion to the speed.
    relative = fields["flops_per_second"] / REFERENCE_FLOPS_PER_SECOND
    fields.setdefault("memory_bandwidth_bytes_per_s", relative * REFERENCE_MEMORY_BANDWIDTH)
    return Device(name=str(name), profile=profile, rates=rates or msgspec.UNSET, **fields)


def _rates(value: Any, what: str) -> tuple[tuple[str, float], ...]:
    """Return ``(dtype, rate)``, in operations per second; `edgeflow.cluster.check` checks names and signs."""
    rates: dict[str, float] = {}
    for key, text in _mapping(value, what).items():
        dtype = _SHORT.get(key, key)
        if dtype in rates:
            raise ConfigError(f"{what}: {dtype} is given twice")
        rates[dtype] = parse_flops_per_second(text, what=f"{what}.{key}")
    return tuple(sorted(rates.items()))


def _preset_keys(preset: str | None) -> dict[str, Any]:
    if preset is None:
        return {}
    keys: dict[str, Any] = dict(PRESETS[preset].keys())
    _expand_nic(keys, preset)
    return keys


def _expand_nic(keys: dict[str, Any], what: str) -> None:
    """``nic`` is short for ``upload`` and ``download``."""
    if "nic" not in keys:
        return
    rate = keys.pop("nic")
    for key in ("upload", "download"):
        if key in keys:
            raise ConfigError(f"{what}: give either nic or {key}")
        keys[key] = rate


class _ProfileFile(msgspec.Struct):
    """The part of a profile file that a cluster needs; see `edgeflow.cost.profile_file`."""

    format: str
    profile: DeviceProfile


def _profile(path: Path, what: str) -> DeviceProfile:
    try:
        return read_json(path, {PROFILE_FORMAT: _ProfileFile}, what="profile").profile
    except (CodecError, ConfigError) as error:
        raise ConfigError(f"{what}.profile: {error}") from error


def _link(keys: Mapping[str, Any], what: str) -> Link:
    return Link(
        bandwidth_bytes_per_s=parse_bandwidth(keys["bandwidth"], what=f"{what}.bandwidth"),
        latency_s=parse_seconds(keys["latency"], what=f"{what}.latency"),
    )


def _items(top: Mapping[str, Any], key: str) -> Iterator[tuple[str, Any]]:
    values = top.get(key) or []
    if not isinstance(values, list):
        raise ConfigError(f"{key}: expected a list, got {type(values).__name__}")
    for index, value in enumerate(values):
        yield f"{key}[{index}]", value


def _pair(value: Any, what: str) -> tuple[tuple[str, str, Link], ...]:
    keys = _mapping(value, what, required={"between", "bandwidth", "latency"}, optional={"one_way"})
    a, b = _names(keys["between"], f"{what}.between")
    link = _link(keys, what)
    if _truth(keys.get("one_way", False), f"{what}.one_way"):
        return ((a, b, link),)
    return ((a, b, link), (b, a, link))


def _no_pair(value: Any, what: str) -> tuple[tuple[str, str, None], ...]:
    a, b = _names(value, what)
    return ((a, b, None), (b, a, None))


def _names(value: Any, what: str) -> tuple[str, str]:
    if not isinstance(value, list) or len(value) != 2:
        raise ConfigError(f"{what}: expected two device names, got {value!r}")
    return str(value[0]), str(value[1])


def _segments(top: Mapping[str, Any], key: str, kind: Literal["medium", "uplink"]) -> Iterator[Segment]:
    optional = {"latency", "relayed"} if kind == "medium" else {"latency"}
    for name, value in _mapping(top.get(key) or {}, key).items():
        what = f"{key}.{name}"
        keys = _mapping(value, what, required={"members", "bandwidth"}, optional=optional)
        members = keys["members"]
        if not isinstance(members, list) or not members:
            raise ConfigError(f"{what}.members: expected device names, got {members!r}")
        yield Segment(
            name=str(name),
            kind=kind,
            members=tuple(str(member) for member in members),
            bandwidth_bytes_per_s=parse_bandwidth(keys["bandwidth"], what=f"{what}.bandwidth"),
            latency_s=parse_seconds(keys.get("latency", 0.0), what=f"{what}.latency"),
            is_relayed=_truth(keys.get("relayed", False), f"{what}.relayed"),
        )


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


def _truth(value: Any, what: str) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(f"{what}: expected true or false, got {value!r}")
    return value
