"""Scenario files: YAML, with traces in it or in CSV files beside it.

name: evening
events:
  - {at: 5 s, lose: pi4}
  - {at: 9 s, join: pi4}
  - {at: 12 s, slow: nuc, to: 0.3}       # times its usual speed
  - {at: 20 s, recover: nuc}
traces:
  - {of: "medium:wifi", file: wifi.csv, repeat: true}
  - {of: network, points: [[0 s, 1 Gbit/s], [2 s, 10 Mbit/s]], duration: 4 s}

A CSV file has a header and two columns: the time (seconds, or with a unit), and the bandwidth (bytes per
second, or with a unit) or, for ``device:NAME``, the speed. A trace ends at its ``duration``; without one, its
last value holds as long as the value before it.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from edgeflow.errors import ConfigError
from edgeflow.files import read_text
from edgeflow.simulator.scenario import Change, Scenario, Trace
from edgeflow.units import parse_bandwidth, parse_seconds
from edgeflow.yaml_ import read_yaml

_EVENTS: Final = ("lose", "join", "slow", "recover")


def load_scenario(path: str | Path) -> Scenario:
    """Read a scenario file.

    Raises:
        ConfigError: If a file is missing or malformed, has an unknown key or a wrong value; the message names
            the file and the key.
    """
    path = Path(path)
    data = read_yaml(path, "scenario file")
    try:
        return parse_scenario(data, name=path.stem, folder=path.parent)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def parse_scenario(data: Any, *, name: str = "", folder: Path = Path()) -> Scenario:
    """Build a scenario from the parsed content of a scenario file.

    Args:
        name: Name of the scenario if the data has none.
        folder: Files of traces are relative to it.

    Raises:
        ConfigError: If a key or a value is wrong.
    """
    top = _keys(data, "scenario", optional={"name", "events", "traces"})
    return Scenario(
        name=str(top.get("name", name)),
        changes=tuple(_change(item, f"events[{i}]") for i, item in enumerate(_list(top, "events"))),
        traces=tuple(_trace(item, f"traces[{i}]", folder) for i, item in enumerate(_list(top, "traces"))),
    )


def _change(data: Any, what: str) -> Change:
    keys = _keys(data, what, required={"at"}, optional={*_EVENTS, "to"})
    named = [event for event in _EVENTS if event in keys]
    if len(named) != 1:
        raise ConfigError(f"{what}: expected one of {', '.join(_EVENTS)}, got {', '.join(named) or 'none'}")
    event = named[0]
    if ("to" in keys) != (event == "slow"):
        raise ConfigError(f"{what}: `slow` needs `to`, and no other event takes it")
    return Change(
        time_s=parse_seconds(keys["at"], what=f"{what}.at"),
        kind="slow" if event in ("slow", "recover") else event,  # type: ignore[arg-type]
        device=str(keys[event]),
        factor=_number(keys["to"], f"{what}.to") if event == "slow" else 1.0,
    )


def _trace(data: Any, what: str, folder: Path) -> Trace:
    keys = _keys(data, what, required={"of"}, optional={"file", "points", "repeat", "duration"})
    if ("file" in keys) == ("points" in keys):
        raise ConfigError(f"{what}: give either `file` or `points`")
    of = str(keys["of"])
    if "file" in keys:
        rows = _csv_rows(folder / str(keys["file"]))
        what = f"{what}, {keys['file']}"
    else:
        rows = _list(keys, "points")
    read: Callable[[Any, str], float] = _number if of.startswith("device:") else _bandwidth
    for row in rows:
        if not isinstance(row, Sequence) or isinstance(row, str) or len(row) != 2:
            raise ConfigError(f"{what}: expected a time and a value, got {row!r}")
    times = tuple(parse_seconds(row[0], what=f"{what}: time") for row in rows)
    duration = keys.get("duration")
    if duration is None and len(times) < 2:
        raise ConfigError(f"{what}: a trace of {len(times)} values needs a duration")
    end_s = (
        2 * times[-1] - times[-2] if duration is None else parse_seconds(duration, what=f"{what}.duration")
    )
    repeat = keys.get("repeat", False)
    if not isinstance(repeat, bool):
        raise ConfigError(f"{what}.repeat: expected true or false, got {repeat!r}")
    return Trace(
        of=of,
        times_s=times,
        values=tuple(read(row[1], f"{what}: value") for row in rows),
        duration_s=end_s,
        repeat=repeat,
    )


def _csv_rows(path: Path) -> list[Any]:
    rows = list(csv.reader(read_text(path, "trace").splitlines()))
    return rows[1:]


def _bandwidth(value: Any, what: str) -> float:
    return parse_bandwidth(value, what=what)


def _number(value: Any, what: str) -> float:
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{what}: expected a number, got {value!r}") from error


def _list(keys: Mapping[str, Any], key: str) -> list[Any]:
    value = keys.get(key) or []
    if not isinstance(value, list):
        raise ConfigError(f"{key}: expected a list, got {type(value).__name__}")
    return value


def _keys(
    value: Any, what: str, *, required: frozenset[str] | set[str] = frozenset(), optional: set[str]
) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"{what}: expected keys and values, got {type(value).__name__}")
    known = required | optional
    for key in value:
        if key not in known:
            raise ConfigError(f"{what}: unknown key {key!r}; known keys: {', '.join(sorted(known))}")
    for key in sorted(required - value.keys()):
        raise ConfigError(f"{what}: missing key {key!r}")
    return value
