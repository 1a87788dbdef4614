"""Incidents: what is written is read again, decisions are made again, and a stranger's file runs nothing."""

from __future__ import annotations

import contextlib
import enum
import json
import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeflow.errors import (
    CodecError,
    ConfigError,
    EdgeflowError,
    PeerLostError,
    StalePlanError,
    UnsupportedOperatorError,
)
from edgeflow.incident import (
    MAX_DEPTH,
    ForeignError,
    ReplayError,
    decode,
    encode,
    load_incident,
    save_defects_to,
    save_incident,
)
from edgeflow.machine import Machine, Raised
from edgeflow.rank import events as r
from edgeflow.rank.schedule import FrameKey
from edgeflow.rank.state import RankState
from edgeflow.worker.registry.state import RegistryState
from edgeflow.worker.state import WorkerState
from tests.conftest import SEED
from tests.unit.walks import WALKS, walked


class Colour(enum.Enum):
    RED = "red"


class Pair(NamedTuple):
    a: int
    b: Any


@dataclass(frozen=True, slots=True)
class Frozen:
    name: str
    inner: Any


@dataclass
class Open:
    value: Any


class Plain:
    def __init__(self, value: int) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Plain) and other.value == self.value

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Plain({self.value})"


KNOWN = {f"{cls.__module__}.{cls.__qualname__}": cls for cls in (Colour, Pair, Frozen, Open, Plain)}


def round_trip(value: Any) -> Any:
    return decode(msgspec.json.decode(msgspec.json.encode(encode(value))), KNOWN)


VALUES: list[Any] = [
    None,
    True,
    -(1 << 62),
    "text",
    1.5,
    math.inf,
    -math.inf,
    b"\x00\xff",
    [],
    [1, [2]],
    (),
    (1, (2, "x")),
    {1, 2},
    frozenset({(1, 2), (0, 3)}),
    deque([1, 2], maxlen=2),
    deque([1]),
    {},
    {1: "a", (2, 3): {"b": None}},
    {"@": "tuple", "v": [1]},
    Colour.RED,
    Pair(1, Pair(2, None)),
    Frozen("a", (1, Colour.RED)),
    Open({"x": Open(1)}),
    Plain(3),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_a_value_comes_back_as_it_was(value: Any) -> None:
    found = round_trip(value)
    assert found == value
    assert type(found) is type(value)
    if isinstance(value, deque):
        assert found.maxlen == value.maxlen


def test_not_a_number_comes_back() -> None:
    assert math.isnan(round_trip(math.nan))


_ATOMS = st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 63) - 1) | st.floats(allow_nan=False)
_HASHABLE = st.recursive(
    _ATOMS | st.text(max_size=4) | st.binary(max_size=4),
    lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3),
    max_leaves=4,
)
_VALUES = st.recursive(
    _HASHABLE,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(_HASHABLE, inner, max_size=3)
        | st.builds(Frozen, st.text(max_size=4), inner)
    ),
    max_leaves=6,
)


@given(_VALUES)
def test_any_nested_value_comes_back(value: Any) -> None:
    assert round_trip(value) == value


def test_an_error_comes_back_with_its_message_and_its_fields() -> None:
    found = round_trip(PeerLostError("gone", rank=1, peer=2, is_silent=True))
    assert type(found) is PeerLostError
    assert (str(found), found.rank, found.peer, found.is_silent) == ("gone", 1, 2, True)
    assert round_trip(UnsupportedOperatorError("no", operator="aten.x")).operator == "aten.x"


def test_a_foreign_error_comes_back_by_name() -> None:
    found = round_trip(ValueError("secret"))
    assert type(found) is ForeignError
    assert str(found) == "ValueError: secret"
    assert encode(found) == encode(ValueError("secret"))  # so a replayed decision about it compares equal
    assert encode(round_trip(Raised(found).error)) == encode(found)


# Replay.


@pytest.mark.parametrize("kind", WALKS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("seed", range(4))
def test_every_machine_decides_the_same_again(kind: type[Machine], seed: int, tmp_path: Path) -> None:
    machine = walked(kind, random.Random(f"{SEED} {seed}"), 120, checkpoint=25)
    assert len(machine.journal.calls) >= 25
    path = tmp_path / "incident.json"
    save_incident(machine, path)
    incident = load_incident(path, kind)
    assert len(incident.calls) == len(machine.journal.calls)
    replayed = incident.replay()
    # It is the same machine again, down to the last attribute.
    assert encode(_state(replayed)) == encode(_state(machine))


def _state(machine: Machine) -> dict[str, Any]:
    return {key: value for key, value in sorted(vars(machine).items()) if key != "journal"}


def test_a_decision_that_is_made_otherwise_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = walked(RankState, random.Random(SEED), 60, checkpoint=1000)
    path = tmp_path / "incident.json"
    save_incident(machine, path)
    right = RankState._finish

    def wrong(self: RankState, epoch: int, request_id: int) -> list[r.RankInstruction]:
        return right(self, epoch, request_id)[::-1]

    monkeypatch.setattr(RankState, "_finish", wrong)
    with pytest.raises(ReplayError, match=r"call \d+ of \d+, handle\(RequestFinished.*recorded .*replayed "):
        load_incident(path, RankState).replay()


def test_an_outcome_that_was_written_otherwise_is_found(tmp_path: Path) -> None:
    path = _incident(tmp_path)
    data = json.loads(path.read_text())
    data["calls"][1][3] = []
    path.write_text(json.dumps(data))
    with pytest.raises(ReplayError, match="call 1 of"):
        load_incident(path, RankState).replay()


def test_a_refusal_is_an_outcome_like_any_other(tmp_path: Path) -> None:
    machine = RankState()
    with pytest.raises(EdgeflowError, match="epoch 9"):
        machine.handle(r.Submitted(9, 1))
    save_incident(machine, tmp_path / "incident.json")
    load_incident(tmp_path / "incident.json", RankState).replay()


def test_a_defect_is_saved_when_it_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Machine, "on_defect", None)
    save_defects_to(tmp_path / "incidents")
    machine = RankState()
    machine.handle(_opened())
    with pytest.raises(TypeError):
        machine.handle(r.RequestLost(1, None, StalePlanError("old")))  # type: ignore[arg-type]
    (path,) = (tmp_path / "incidents").iterdir()
    assert path.name.startswith("RankState-")
    incident = load_incident(path, RankState)
    assert [type(call.args[0]) for call in incident.calls] == [r.EpochOpened, r.RequestLost]
    incident.replay()  # the defect is there again


def test_the_defect_itself_is_raised_though_it_cannot_be_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Machine, "on_defect", None)
    save_defects_to(tmp_path / "incidents")
    (tmp_path / "incidents").rmdir()
    with pytest.raises(TypeError):
        RankState().handle()  # type: ignore[call-arg]


# A stranger's file.


def _opened() -> r.EpochOpened:
    return r.EpochOpened(epoch=1, receives=frozenset({FrameKey(-1, 0), FrameKey(2, 7)}))


def _incident(folder: Path) -> Path:
    machine = RankState()
    machine.handle(_opened())
    machine.handle(r.FrameArrived(1, 1, FrameKey(-1, 0), 10))
    machine.handle(r.RequestWaits(1, 1, (FrameKey(2, 7),)))
    machine.handle(r.RequestFailed(1, 1, PeerLostError("gone", rank=1, peer=2)))
    path = folder / "incident.json"
    save_incident(machine, path)
    return path


Change = Callable[[dict[str, Any]], object]

HOSTILE: dict[str, Change] = {
    "another machine": lambda data: data.update(machine="edgeflow.worker.state.WorkerState"),
    "another format": lambda data: data.update(format="edgeflow-incident-99"),
    "no calls": lambda data: data.pop("calls"),
    "calls are no list": lambda data: data.update(calls={}),
    "the state is no dict": lambda data: data.update(state=[1]),
    "a class that is not known": lambda data: data["calls"][0].__setitem__(
        1, {"@": "tuple", "v": [{"@": "subprocess.Popen", "v": {"args": "true"}}]}
    ),
    "a class of edgeflow's that is no part": lambda data: data["calls"][0].__setitem__(
        1, {"@": "tuple", "v": [{"@": "edgeflow.coordinator.session.Session", "v": {}}]}
    ),
    "a method that is not recorded": lambda data: data["calls"][0].__setitem__(0, "validate"),
    "a method that there is not": lambda data: data["calls"][0].__setitem__(0, "no_such"),
    "a method that is no text": lambda data: data["calls"][0].__setitem__(0, ["handle"]),
    "a private name": lambda data: data["calls"][0].__setitem__(0, "__class__"),
    "a call of three parts": lambda data: data["calls"][0].pop(),
    "a call that is a text": lambda data: data["calls"].__setitem__(0, "handle"),
    "arguments that are no tuple": lambda data: data["calls"][0].__setitem__(1, [1]),
    "keywords that are no dict": lambda data: data["calls"][0].__setitem__(2, [1]),
    "a field of another kind": lambda data: data["calls"][0].__setitem__(
        1, {"@": "tuple", "v": [{"@": "edgeflow.rank.events.Submitted", "v": [1, 2]}]}
    ),
    "a field that there is not": lambda data: data["calls"][0].__setitem__(
        1, {"@": "tuple", "v": [{"@": "edgeflow.rank.events.Submitted", "v": {"no_such": 1}}]}
    ),
    "a private field": lambda data: data["calls"][0].__setitem__(
        1, {"@": "tuple", "v": [{"@": "edgeflow.rank.state.RankState", "v": {"__class__": 1}}]}
    ),
    "a method in the state": lambda data: data["state"]["v"].append(["handle", 1]),
    "a journal in the state": lambda data: data["state"]["v"].append(["journal", 1]),
    "a state by numbers": lambda data: data["state"]["v"].append([5, 1]),
    "an error that is none of edgeflow's": lambda data: data["state"]["v"].append(
        ["x", {"@": "error", "class": "Any", "args": [], "v": {}}]
    ),
    "a private field of an error": lambda data: data["state"]["v"].append(
        ["x", {"@": "error", "class": "CodecError", "args": [], "v": {"__dict__": {"@": "dict", "v": []}}}]
    ),
    "an unhashable member of a set": lambda data: data["state"]["v"].append(["x", {"@": "set", "v": [[]]}]),
    "odd digits": lambda data: data["state"]["v"].append(["x", {"@": "bytes", "v": "0g"}]),
    "a tag that is a list": lambda data: data["state"]["v"].append(["x", {"@": [], "v": []}]),
    "no tag": lambda data: data["state"]["v"].append(["x", {"a": 1}]),
    "a deque of any length": lambda data: data["state"]["v"].append(
        ["x", {"@": "deque", "v": [], "maxlen": 1 << 63}]
    ),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_file_is_refused(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _incident(tmp_path)
    data = json.loads(path.read_text())
    HOSTILE[what](data)
    path.write_text(json.dumps(data))

    def ran(*args: object) -> None:
        raise AssertionError("something was run")

    monkeypatch.setattr(RankState, "decide", ran)
    monkeypatch.setattr("subprocess.Popen.__init__", ran)
    with pytest.raises((CodecError, ConfigError)):
        load_incident(path, RankState)


def test_values_that_nest_too_deep_are_refused(tmp_path: Path) -> None:
    path = _incident(tmp_path)
    data = json.loads(path.read_text())
    nested: Any = 1
    for _ in range(MAX_DEPTH + 1):
        nested = [nested]
    data["state"]["v"].append(["x", nested])
    path.write_text(json.dumps(data))
    with pytest.raises(CodecError, match="nested more than 64 deep"):
        load_incident(path, RankState)
    path.write_text(path.read_text().replace(json.dumps(nested), "[" * 100_000 + "]" * 100_000))
    with pytest.raises((CodecError, ConfigError)):
        load_incident(path, RankState)


def test_a_file_of_another_machine_is_named(tmp_path: Path) -> None:
    with pytest.raises(CodecError, match=r"incident of 'edgeflow\.rank\.state\.RankState', not of .*Worker"):
        load_incident(_incident(tmp_path), WorkerState)


def test_no_file_and_half_a_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        load_incident(tmp_path / "none.json", RankState)
    path = _incident(tmp_path)
    whole = path.read_bytes()
    for length in (0, 1, len(whole) // 2, len(whole) - 2):
        path.write_bytes(whole[:length])
        with pytest.raises((CodecError, ConfigError)):
            load_incident(path, RankState)


ODD: list[Any] = [None, -1, 1 << 70, 1e300, "", "@", "handle", "error", [], [[]], {}, {"@": "tuple"}, True]
ODD += [{"@": tag, "v": v} for tag in ("set", "dict", "deque", "float", "bytes") for v in (None, 1, [1], "x")]


def _mutate(rng: random.Random, data: Any) -> Any:
    """Replace, remove or move one value somewhere in ``data``."""
    places: list[tuple[Any, Any]] = []

    def collect(item: Any) -> None:
        keys = item.keys() if isinstance(item, dict) else range(len(item)) if isinstance(item, list) else ()
        for key in keys:
            places.append((item, key))
            collect(item[key])

    collect(data)
    (target, key), (other, other_key) = rng.choice(places), rng.choice(places)
    choice = rng.random()
    if choice < 0.5:
        target[key] = rng.choice(ODD)
    elif choice < 0.7:
        del target[key]
    else:
        target[key] = json.loads(json.dumps(other[other_key]))
    return data


@pytest.mark.parametrize("kind", [RankState, WorkerState, RegistryState], ids=lambda kind: kind.__name__)
def test_of_a_damaged_file_only_errors_of_edgeflow_come(kind: type[Machine], tmp_path: Path) -> None:
    rng = random.Random(SEED)
    path = tmp_path / "incident.json"
    save_incident(walked(kind, rng, 25, checkpoint=100), path)
    whole = path.read_text()
    num_refused = 0
    for _ in range(400):
        data = json.loads(whole)
        for _ in range(rng.randint(1, 3)):
            data = _mutate(rng, data)
        path.write_text(json.dumps(data))
        try:
            load_incident(path, kind)
        except EdgeflowError:
            num_refused += 1
    assert 40 < num_refused < 400  # some changes, as of a number, cannot be seen until the replay


def test_of_damaged_bytes_only_errors_of_edgeflow_come(tmp_path: Path) -> None:
    rng = random.Random(SEED)
    path = _incident(tmp_path)
    whole = path.read_bytes()
    for _ in range(400):
        damaged = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            damaged[rng.randrange(len(damaged))] = rng.choice(b'0"{}[],:\\\xff@a')
        path.write_bytes(damaged)
        with contextlib.suppress(EdgeflowError):
            load_incident(path, RankState)
