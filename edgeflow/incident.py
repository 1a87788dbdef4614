"""Incidents: the journal of a state machine as a file, and its replay.

    save_incident(machine, path)              in production, when something went wrong
    load_incident(path, RankState).replay()   in a test: raises `ReplayError` at the first call that
                                              decides otherwise

A file is a stranger's: nothing in it is run. Values are plain data, and instances of classes that the
machine's own modules define: structs of fields, and objects that are made without calling their constructors.
"""

from __future__ import annotations

import dataclasses
import enum
import logging
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

import msgspec

from edgeflow import errors
from edgeflow.errors import CodecError, EdgeflowError
from edgeflow.files import make_folder, read_json
from edgeflow.machine import Call, Machine, Raised

logger = logging.getLogger(__name__)

FORMAT: Final = "edgeflow-incident-1"

#: Environment variable with the folder that defects are saved to.
VARIABLE: Final = "EDGEFLOW_INCIDENTS"
MAX_DEPTH: Final = 64

M = TypeVar("M", bound=Machine)


class ReplayError(AssertionError):
    """A replayed call has another outcome than the recorded one; the message shows both."""


class ForeignError(Exception):
    """Stands for an error of a class that is not edgeflow's."""


class _File(msgspec.Struct, kw_only=True):
    format: str
    machine: str
    state: Any
    calls: list[Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Incident(Generic[M]):
    """What a file holds: a machine as it was, and the calls that it then got.

    Attributes:
        calls: With their outcomes as plain data, which is how they are compared.
    """

    machine: M
    calls: tuple[Call, ...]

    def replay(self) -> M:
        """Make the calls, and return the machine as it is after them.

        Raises:
            ReplayError: If a call returns or raises something else than it did.
        """
        for index, call in enumerate(self.calls):
            try:
                outcome: Any = getattr(self.machine, call.method)(*call.args, **call.kwargs)
            except Exception as error:
                outcome = Raised(error)
            found = encode(tuple(outcome) if isinstance(outcome, list) else outcome)
            if found != call.outcome:
                raise ReplayError(
                    f"call {index} of {len(self.calls)}, {call.method}{call.args}: "
                    f"recorded {call.outcome}, replayed {found}"
                )
        return self.machine


def save_incident(machine: Machine, path: Path) -> None:
    """Write a machine's journal to a file; the caller holds the lock that guards the machine."""
    file = _File(
        format=FORMAT,
        machine=_name(type(machine)),
        state=encode(machine.journal.start),
        calls=[
            [call.method, encode(call.args), encode(dict(call.kwargs)), encode(call.outcome)]
            for call in machine.journal.calls
        ],
    )
    path.write_bytes(msgspec.json.format(msgspec.json.encode(file), indent=1))


def heed_environment() -> None:
    """Save defects to the folder that `VARIABLE` names, if it names one; for a process's outermost ring."""
    if folder := os.environ.get(VARIABLE):
        save_defects_to(Path(folder))


def save_defects_to(folder: Path) -> None:
    """From now on, write the journal of a machine to ``folder`` when it raises what it should not."""
    make_folder(folder)

    def save(machine: Machine) -> None:
        path = folder / f"{type(machine).__name__}-{os.getpid()}-{time.time_ns()}.json"
        try:
            save_incident(machine, path)
        except Exception:  # the defect itself is what must be raised
            logger.exception("incident.not_saved")
        else:
            logger.error("incident.saved", extra={"path": str(path)})

    Machine.on_defect = save


def machine_in(path: Path) -> str:
    """Return the full name of the class of the machine in a file; raises as `load_incident` does."""
    return read_json(path, {FORMAT: _File}, what="incident").machine


def load_incident(path: Path, kind: type[M]) -> Incident[M]:
    """Read the file of a machine of one class.

    Raises:
        ConfigError: If there is no such file.
        CodecError: If it is no incident, or one of another machine.
    """
    file = read_json(path, {FORMAT: _File}, what="incident")
    if file.machine != _name(kind):
        raise CodecError(f"{path} is an incident of {file.machine[:200]!r}, not of {_name(kind)!r}")
    known = _known(kind)
    state = decode(file.state, known)
    # An attribute that the class has, a method above all, is not part of the state.
    if not isinstance(state, dict) or any(not isinstance(name, str) or hasattr(kind, name) for name in state):
        raise CodecError(f"{path}: {str(file.state)[:200]} is no state of a {kind.__name__}")
    machine = kind.__new__(kind)
    vars(machine).update(state)
    calls = []
    for item in file.calls:
        if not isinstance(item, list) or len(item) != 4 or not _is_recorded(kind, item[0]):
            raise CodecError(f"{path}: {str(item)[:200]} is no call of a {kind.__name__}")
        args, kwargs = decode(item[1], known), decode(item[2], known)
        if not isinstance(args, tuple) or not isinstance(kwargs, dict):
            raise CodecError(f"{path}: the arguments of a call are {str(item[1:3])[:200]}")
        calls.append(Call(item[0], args, kwargs, item[3]))
    return Incident(machine=machine, calls=tuple(calls))


def encode(value: Any) -> Any:
    """Return a value as what JSON can hold; what JSON has no word for is an object with the key ``@``."""
    match value:
        case enum.Enum():
            return {"@": _name(type(value)), "v": value.name}
        case None | bool() | int() | str():
            return value
        case float():
            return value if value - value == 0 else {"@": "float", "v": repr(value)}
        case BaseException():
            fields = {key: encode(item) for key, item in sorted(vars(value).items())}
            name = type(value).__name__ if isinstance(value, EdgeflowError) else "ForeignError"
            args = [str(value)] if isinstance(value, EdgeflowError | ForeignError) else [_foreign(value)]
            return {"@": "error", "class": name, "args": args, "v": fields if name != "ForeignError" else {}}
        case bytes():
            return {"@": "bytes", "v": value.hex()}
        case list():
            return [encode(item) for item in value]
        case tuple() if hasattr(value, "_fields"):
            return {"@": _name(type(value)), "v": [encode(item) for item in value]}
        case tuple():
            return {"@": "tuple", "v": [encode(item) for item in value]}
        case deque():
            return {"@": "deque", "v": [encode(item) for item in value], "maxlen": value.maxlen}
        case set() | frozenset():
            items = sorted((encode(item) for item in value), key=lambda item: msgspec.json.encode(item))
            return {"@": type(value).__name__, "v": items}
        case Mapping():
            return {"@": "dict", "v": [[encode(key), encode(item)] for key, item in value.items()]}
    return {"@": _name(type(value)), "v": {name: encode(getattr(value, name)) for name in _fields(value)}}


def decode(data: Any, known: Mapping[str, type], depth: int = 0) -> Any:
    """Return what `encode` was given.

    Args:
        known: Classes by name that may be made.

    Raises:
        CodecError: If ``data`` is malformed, or names another class.
    """
    if depth > MAX_DEPTH:
        raise CodecError(f"incident: values are nested more than {MAX_DEPTH} deep")

    def inner(item: Any) -> Any:
        return decode(item, known, depth + 1)

    if isinstance(data, list):
        return [inner(item) for item in data]
    if not isinstance(data, dict):
        return data
    tag, content = data.get("@"), data.get("v")
    try:
        if tag in _PLAIN:
            return _PLAIN[tag](data, inner)
        return _made(known[str(tag)], content, inner)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise CodecError(f"incident: {str(data)[:200]} is no value: {error}") from error


def _made(cls: type, content: Any, inner: Callable[[Any], Any]) -> Any:
    """Make an instance without calling its constructor."""
    if issubclass(cls, enum.Enum):
        return cls[content]
    if issubclass(cls, tuple):
        return tuple.__new__(cls, [inner(item) for item in content])
    if issubclass(cls, msgspec.Struct):
        return cls(**{name: inner(item) for name, item in content.items()})
    made = cls.__new__(cls)
    _set_fields(made, content, inner)
    return made


def _set_fields(made: Any, content: Mapping[str, Any], inner: Callable[[Any], Any]) -> None:
    """Set the fields of an instance, also of a frozen one."""
    for name, item in content.items():
        if name.startswith("__"):
            raise ValueError(f"no field may be called {name}")
        object.__setattr__(made, name, inner(item))


def _decode_error(data: Mapping[str, Any], inner: Callable[[Any], Any]) -> BaseException:
    name = data["class"]
    cls = getattr(errors, name, None) if name != "ForeignError" else ForeignError
    if not (isinstance(cls, type) and issubclass(cls, Exception)):
        raise ValueError(f"{name} is no error of edgeflow")
    error: BaseException = cls.__new__(cls, *[str(item) for item in data["args"]])
    _set_fields(error, data["v"], inner)
    return error


_PLAIN: Final[Mapping[Any, Callable[[Mapping[str, Any], Callable[[Any], Any]], Any]]] = {
    "float": lambda data, inner: float(data["v"]),
    "bytes": lambda data, inner: bytes.fromhex(data["v"]),
    "tuple": lambda data, inner: tuple(inner(item) for item in data["v"]),
    "set": lambda data, inner: {inner(item) for item in data["v"]},
    "frozenset": lambda data, inner: frozenset(inner(item) for item in data["v"]),
    "deque": lambda data, inner: deque((inner(item) for item in data["v"]), data["maxlen"]),
    "dict": lambda data, inner: {inner(key): inner(item) for key, item in data["v"]},
    "error": _decode_error,
}


def _foreign(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _fields(value: object) -> list[str]:
    if dataclasses.is_dataclass(value):
        return [field.name for field in dataclasses.fields(value)]
    if isinstance(value, msgspec.Struct):
        return list(value.__struct_fields__)
    return [name for name in vars(value) if name != "journal"]


def _known(kind: type) -> dict[str, type]:
    """Return the classes of edgeflow that the modules define which the machine's module knows classes of."""
    modules = {base.__module__ for base in kind.__mro__ if base.__module__.startswith("edgeflow.")}
    frontier = set(modules)
    for _ in range(2):  # the machine's own module, and those of its parts
        frontier = {
            value.__module__
            for module in frontier
            for value in vars(sys.modules[module]).values()
            if isinstance(value, type) and value.__module__.startswith("edgeflow.")
        } - modules
        modules |= frontier
    return {
        _name(value): value
        for module in modules
        for value in vars(sys.modules[module]).values()
        if isinstance(value, type) and value.__module__ == module
    }


def _is_recorded(kind: type, method: Any) -> bool:
    return isinstance(method, str) and bool(getattr(getattr(kind, method, None), "is_recorded", False))
