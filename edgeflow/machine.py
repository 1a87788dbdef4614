"""State machines: events in, instructions out, and a bounded journal of both that can be replayed.

A state machine decides and does nothing else: it knows no socket, clock or thread. Its public methods that
change its state are marked `recorded`: the journal keeps each call and its outcome, and now and then a copy
of the whole state, so that the latest calls can be replayed on the state that they met. `edgeflow.incident`
writes journals to files and reads them.

Models: ``stimulus_log``, ``story`` and ``validate_state`` of dask's worker state machine.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Concatenate, Final, NamedTuple, ParamSpec, TypeVar

import msgspec

from edgeflow.errors import EdgeflowError

P = ParamSpec("P")
R = TypeVar("R")
M = TypeVar("M", bound="Machine")

#: Calls after which the state is copied anew; the journal holds this many calls, and at most twice as many.
CHECKPOINT: Final = 2048


class Raised(NamedTuple):
    """The outcome of a call that raised."""

    error: BaseException


class Word(msgspec.Struct, frozen=True, gc=False):
    """Base of events and instructions.

    The garbage collector does not visit them: a journal keeps thousands, and the collector would walk through
    the whole heap each time that so many objects have outlived their youth. One that carries an error says
    ``gc=True``, since an error may be part of a cycle.
    """


class Call(NamedTuple):
    """One recorded call.

    Attributes:
        outcome: What it returned, lists as tuples, or `Raised`. Errors have no traceback, which would keep
            buffers alive.
    """

    method: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    outcome: Any


#: A `Call` as it is kept. A plain tuple of values that the garbage collector does not visit is not visited.
_Kept = tuple[str, tuple[Any, ...], tuple[tuple[str, Any], ...], Any]


class _Chapter(NamedTuple):
    """A copy of the state, and the calls since."""

    state: Mapping[str, Any]
    calls: list[_Kept]


class Journal:
    """The latest calls of one machine, and the state that the first of them met."""

    def __init__(self, machine: Machine, checkpoint: int = CHECKPOINT) -> None:
        #: Whether a recorded call is under way.
        self.is_open = False
        self._checkpoint = checkpoint
        self._older: _Chapter | None = None
        self._newer = _Chapter(_state_of(machine), [])

    def turn(self, machine: Machine) -> None:
        """Begin a new chapter if the present one is full; to be called before the next call."""
        if len(self._newer.calls) >= self._checkpoint:
            self._older, self._newer = self._newer, _Chapter(_state_of(machine), [])

    def add(self, method: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], outcome: Any) -> None:
        kept_kwargs = tuple(kwargs.items()) if kwargs else ()
        kept_outcome = _lean(outcome) if type(outcome) is list else _lean_one(outcome)
        self._newer.calls.append((method, _lean(args), kept_kwargs, kept_outcome))

    @property
    def start(self) -> Mapping[str, Any]:
        """The state, by attribute, before the first of `calls`."""
        return (self._older or self._newer).state

    @property
    def calls(self) -> tuple[Call, ...]:
        """Oldest first."""
        chapters = [self._newer] if self._older is None else [self._older, self._newer]
        return tuple(
            Call(method, args, dict(kwargs), outcome)
            for chapter in chapters
            for method, args, kwargs, outcome in chapter.calls
        )

    def story(self, *keys: object) -> list[Call]:
        """Return the calls in which one of ``keys`` occurs: a request id, an epoch, the name of a device."""
        wanted = set(keys)
        return [call for call in self.calls if not wanted.isdisjoint(_atoms(call))]


class Machine:
    """Base of the state machines.

    Attributes:
        is_validating: Whether `validate` is called after every recorded call; tests set it on the class.
        on_defect: Called when a recorded call raises an error that is not edgeflow's.
    """

    is_validating: ClassVar[bool] = False
    on_defect: ClassVar[Callable[[Machine], None] | None] = None

    @functools.cached_property
    def journal(self) -> Journal:
        return Journal(self)

    def validate(self) -> None:
        """Raise `AssertionError` if the state contradicts itself."""


def recorded(method: Callable[Concatenate[M, P], R]) -> Callable[Concatenate[M, P], R]:
    """Mark a method that changes a machine's state, so that its calls are in the journal."""
    name = method.__name__

    @functools.wraps(method)
    def call(self: M, /, *args: P.args, **kwargs: P.kwargs) -> R:
        journal = self.journal
        if journal.is_open:  # one recorded method calls another: replaying the outer one is enough
            return method(self, *args, **kwargs)
        journal.turn(self)
        journal.is_open = True
        try:
            outcome = method(self, *args, **kwargs)
        except Exception as error:
            journal.add(name, args, kwargs, Raised(error))
            if not isinstance(error, EdgeflowError) and Machine.on_defect is not None:
                Machine.on_defect(self)
            raise
        finally:
            journal.is_open = False
        journal.add(name, args, kwargs, outcome)
        if Machine.is_validating:
            self.validate()
        return outcome

    call.is_recorded = True  # type: ignore[attr-defined]  # how `edgeflow.incident` tells what may be replayed
    return call


def without_traceback(error: BaseException) -> BaseException:
    """Return a copy of an error that refers to no frames."""
    try:
        copied: BaseException = type(error).__new__(type(error), *error.args)
    except TypeError:  # a class with a constructor of its own in C
        return RuntimeError(f"{type(error).__name__}: {error}")
    for key, value in vars(error).items():
        setattr(copied, key, value)
    return copied


def _state_of(machine: Machine) -> Mapping[str, Any]:
    return copy.deepcopy({key: value for key, value in vars(machine).items() if key != "journal"})


#: Class -> whether its instances may refer to errors, and so have to be looked into.
_MAY_HOLD_ERRORS: Final[dict[type, bool]] = {}


def _lean(values: Sequence[Any]) -> tuple[Any, ...]:
    """Return events or instructions as a tuple, with lists as tuples and errors that refer to no frames.

    Most hold neither, and are kept as they are: this is called for every event.
    """
    for value in values:
        if _may_hold_errors(type(value)):
            return tuple([_lean_one(item) for item in values])
    return tuple(values)


def _may_hold_errors(kind: type) -> bool:
    known = _MAY_HOLD_ERRORS.get(kind)
    if known is None:
        is_nest = issubclass(kind, list | tuple)
        known = _MAY_HOLD_ERRORS[kind] = is_nest or "error" in getattr(kind, "__struct_fields__", ())
    return known


def _lean_one(value: Any) -> Any:
    if type(value) is tuple or type(value) is list:
        return _lean(value)
    if type(value) is Raised:
        return Raised(without_traceback(value.error))
    error = getattr(value, "error", None)
    if isinstance(error, BaseException):
        return msgspec.structs.replace(value, error=without_traceback(error))
    return value


def _atoms(value: Any) -> Iterator[object]:
    """Yield the numbers and texts in a call, an event or an instruction."""
    if isinstance(value, int | str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _atoms(key)
            yield from _atoms(item)
    elif isinstance(value, tuple | list | set | frozenset):
        for item in value:
            yield from _atoms(item)
    elif isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            yield from _atoms(getattr(value, name))
