"""Add kernels to an ONNX graph: resolve arguments, call an emitter for each step, check result shapes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from edgeflow.graph.ir import NUMPY_DTYPES, Symbol
from edgeflow.kernels.base import Weights
from edgeflow.kernels.onnx_.graph import Graph
from edgeflow.kernels.onnx_.values import HALVES, CannotEmit, Dtype, Value
from edgeflow.plan.program import Kernel
from edgeflow.sharding.cut import Literal, Result, Slice, Step
from edgeflow.sharding.region import Region

#: Results of a step; None is an output that is never read and that the emitter left out.
Results = Value | tuple[Value | None, ...]


class Arguments(Mapping[str, Any]):
    """Resolved arguments of a call, by name: tensors are `Value`s, dtypes `Dtype`s, lists tuples."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __iter__(self) -> Any:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def tensor(self, name: str) -> Value:
        """Return an argument that must be a tensor.

        Raises:
            CannotEmit: If it is not a tensor.
        """
        value = self._values[name]
        if not isinstance(value, Value):
            raise CannotEmit(f"{name} is {value!r}, not a tensor")
        return value

    def optional(self, name: str) -> Value | None:
        value = self._values.get(name)
        return None if value is None else self.tensor(name)

    def dtype(self, name: str = "dtype") -> str | None:
        """Return the dtype that an argument names; None if it names no dtype."""
        value = self._values.get(name)
        return value.name if isinstance(value, Dtype) else None

    def ints(self, name: str, count: int | None = None) -> tuple[int, ...]:
        """Return a list of integers; a single integer, or a list of one, is repeated ``count`` times."""
        value = self._values.get(name)
        if isinstance(value, int):
            value = (value,)
        items = tuple(int(item) for item in value or ())
        return items * count if count is not None and len(items) == 1 else items


Emitter = Callable[[Graph, Arguments], Results]


@dataclass(frozen=True, slots=True)
class Made:
    """A tensor available in the graph: the region that exists, and the value that holds it."""

    region: Region
    value: Value


class KernelEmitter:
    """Adds kernels to one graph, in order.

    Args:
        emitters: Emitters by `name.overload`, or by `name` for all overloads.
    """

    def __init__(self, graph: Graph, weights: Weights, emitters: Mapping[str, Emitter]) -> None:
        self.graph = graph
        self._weights = weights
        self._emitters = emitters
        self._held: dict[tuple[str, Region], Value] = {}
        self.made: dict[str, Made] = {}

    def emit(self, kernel: Kernel) -> None:
        """Add one kernel.

        Raises:
            CannotEmit: If ONNX cannot express a step exactly; the graph is then as it was.
            KeyError: If a weight slice is missing.
        """
        mark = self.graph.mark()
        try:
            results: list[Results] = []
            for step in kernel.steps:
                results.append(self._step(step, results))
            made = results[-1]
            values = (made,) if isinstance(made, Value) else made
            found = {}
            for (name, region), value in zip(kernel.outputs, values, strict=True):
                if not name:
                    continue
                if value is None or value.shape != region.shape:
                    got = None if value is None else value.shape
                    raise CannotEmit(f"{kernel.operator}: {name} is {got}, not {region.shape}")
                found[name] = Made(region, value)
        except CannotEmit:
            self.graph.rollback(mark)
            raise
        self.made.update(found)

    def take(self, name: str, region: Region) -> Value:
        """Return a region of a tensor that the graph holds."""
        held = self.made[name]
        where = region.slices(held.region)
        starts = [part.start for part in where]
        return self.graph.slice(held.value, starts, [part.stop for part in where], range(len(where)))

    def _step(self, step: Step, results: Sequence[Results]) -> Results:
        namespace, name, overload = (*step.target.split("."), "", "", "")[:3]
        if namespace != "aten":
            raise CannotEmit(f"{step.target} is not an ATen operator")
        emitter = self._emitters.get(f"{name}.{overload}") or self._emitters.get(name)
        if emitter is None:
            raise CannotEmit(f"no emitter for {step.target}")
        values = {key: self._resolve(value, results) for key, value in step.arguments}
        half = _half(values.values())
        try:
            if half is None or name in _MOVES:
                return emitter(self.graph, Arguments(values))
            return self._widened(emitter, values, half)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            # Arguments that do not fit each other: torch's own error explains them best.
            raise CannotEmit(f"{type(error).__name__}: {error}") from error

    def _widened(self, emitter: Emitter, values: Mapping[str, Any], half: str) -> Results:
        """Compute 16-bit floats in 32 bits and round after each call, as torch does on a CPU."""

        def widen(value: Any) -> Any:
            if isinstance(value, tuple) and not isinstance(value, Value | Dtype):
                return tuple(widen(item) for item in value)
            if isinstance(value, Value) and value.dtype == half:
                return self.graph.cast(value, "float32")
            return value

        def narrow(value: Value | None) -> Value | None:
            if value is None or value.dtype != "float32" or is_wide:
                return value
            return self.graph.cast(value, half)

        is_wide = isinstance(values.get("dtype"), Dtype)
        made = emitter(self.graph, Arguments({key: widen(value) for key, value in values.items()}))
        if isinstance(made, Value):
            return narrow(made) or made
        return tuple(narrow(item) for item in made)

    def _resolve(self, value: Any, results: Sequence[Results]) -> Any:
        if isinstance(value, Slice):
            return self._slice(value)
        if isinstance(value, Result):
            return results[value.step]
        if isinstance(value, tuple):
            return tuple(self._resolve(item, results) for item in value)
        if isinstance(value, Literal):
            array = np.array(value.values, NUMPY_DTYPES[value.dtype]).reshape(value.shape)
            return self.graph.constant(array)
        return _symbol(value) if isinstance(value, Symbol) else value

    def _slice(self, item: Slice) -> Value:
        if item.tensor in self.made:
            return self.take(item.tensor, item.region)
        key = (item.tensor, item.region)
        if key not in self._held:
            self._held[key] = self.graph.weight(self._weights[key])
        return self._held[key]


def _symbol(symbol: Symbol) -> Any:
    if symbol.kind == "float":
        return math.nan if symbol.value == "nan" else float(symbol.value)
    if symbol.kind == "dtype":
        if symbol.value not in NUMPY_DTYPES:
            raise CannotEmit(f"no dtype {symbol.value}")
        return Dtype(symbol.value)
    return None  # devices, layouts and memory formats are the back end's choice


def _half(values: Any) -> str | None:
    """Return the 16-bit dtype of the float operands; None if none of them has 16 bits.

    Raises:
        CannotEmit: If a 16-bit operand is combined with another float dtype.
    """
    found: set[str] = set()
    for value in values:
        items = [value] if isinstance(value, Value) else value if isinstance(value, tuple) else []
        found |= {item.dtype for item in items if isinstance(item, Value) and item.is_float}
    if not found & set(HALVES):
        return None
    if len(found) > 1:
        raise CannotEmit(f"operands of {' and '.join(sorted(found))}")
    return found.pop()


#: Operators that move elements or name the dtype of their result: there is nothing to round.
_MOVES: Final = frozenset(
    """
    view reshape _unsafe_view flatten unflatten unsqueeze squeeze permute transpose t mT expand slice select
    cat stack clone contiguous alias detach _to_copy index_select gather embedding repeat flip roll
    """.split()
)
