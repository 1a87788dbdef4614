"""One random operator with its tensors and its true result; what the families draw and the suite checks."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from edgeflow.graph.aten import call_overload, overload
from edgeflow.graph.ir import Array, Operator, Symbol, TensorRef, TensorSpec, Value
from edgeflow.graph.structure import to_array
from edgeflow.plan.program import Buffer, Compute, Kernel, Program
from edgeflow.sharding.cut import Cut
from edgeflow.sharding.region import Interval, Region

#: Draws of one family that torch may refuse (a kernel larger than its input) before one must be legal.
_ATTEMPTS = 200
_MOST_ELEMENTS = 20_000

#: Largest difference, relative to the largest finite value (or one, if that is smaller).
TOLERANCES = {"float64": 1e-11, "float32": 1e-5, "bfloat16": 3e-2, "float16": 4e-3}


@dataclass(frozen=True, kw_only=True)
class Case:
    """An operator, the tensors that it reads, and what torch makes of them whole.

    ``origin`` is the call of `draw_case` that draws it again.
    """

    op: Operator
    specs: Mapping[str, TensorSpec]
    tensors: Mapping[str, Array]
    expected: Array
    origin: str = ""

    @property
    def output(self) -> str:
        """The output that is looked at; an operator of several names no other."""
        return self.op.first_output

    @property
    def shape(self) -> tuple[int, ...]:
        return self.specs[self.output].shape

    @cached_property
    def largest(self) -> float:
        """Largest finite absolute value of the result, or one if that is smaller."""
        values = np.abs(self.expected.astype(np.float64))
        return float(max(1.0, values[np.isfinite(values)].max(initial=0.0)))

    def __str__(self) -> str:
        tensors = ", ".join(f"{name}: {spec.dtype}{list(spec.shape)}" for name, spec in self.specs.items())
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.op.arguments)
        return f"{self.op.target}({arguments})\n  where {tensors}\n  drawn by {self.origin}"


class Draw:
    """Random choices for one case; `dtype` is what `tensor` makes."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self.dtype: torch.dtype = self.pick(torch.float64, torch.float64, torch.float64, torch.float32)

    def integer(self, low: int, high: int) -> int:
        """An integer from ``low`` to ``high``, both included."""
        return int(self._rng.integers(low, high + 1))

    def real(self, low: float = -2.0, high: float = 2.0) -> float:
        return float(self._rng.uniform(low, high))

    def flag(self, chance: float = 0.5) -> bool:
        return bool(self._rng.random() < chance)

    def pick(self, *options: Any) -> Any:
        return options[int(self._rng.integers(len(options)))]

    def shuffled(self, items: Sequence[int]) -> list[int]:
        return [items[index] for index in self._rng.permutation(len(items))]

    def some(self, items: Sequence[int], *, least: int = 1) -> list[int]:
        """A random subset in random order."""
        return self.shuffled(items)[: self.integer(min(least, len(items)), len(items))]

    def shape(self, low: int, high: int, *, most: int = 6) -> tuple[int, ...]:
        """A shape of ``low`` to ``high`` dims of 1 to ``most`` elements each."""
        return tuple(self.integer(1, most) for _ in range(self.integer(low, high)))

    def tensor(self, *shape: int, positive: bool = False) -> torch.Tensor:
        values = self._rng.standard_normal(shape)
        return torch.from_numpy(np.asarray(np.abs(values) + 0.1 if positive else values)).to(self.dtype)

    def integers(self, *shape: int, low: int = -5, high: int = 5) -> torch.Tensor:
        return torch.from_numpy(np.asarray(self._rng.integers(low, high + 1, size=shape)))

    def bools(self, *shape: int, chance: float = 0.5) -> torch.Tensor:
        return torch.from_numpy(np.asarray(self._rng.random(shape) < chance))

    def broadcastable(self, shape: Sequence[int]) -> tuple[int, ...]:
        """A shape that broadcasts to ``shape``: some dims of one element, some leading dims missing."""
        shrunk = [1 if self.flag(0.25) else size for size in shape]
        return tuple(shrunk[self.integer(0, len(shrunk)) if self.flag(0.3) else 0 :])

    def region(self, shape: Sequence[int]) -> Region:
        """A box that is not empty: dims whole, of one element, or anything between."""
        intervals = []
        for size in shape:
            kind = self.integer(0, 3)
            start = 0 if kind == 0 else self.integer(0, size - 1)
            stop = size if kind == 0 else start + 1 if kind == 1 else self.integer(start + 1, size)
            intervals.append(Interval(start, stop))
        return Region(tuple(intervals))

    def element(self, shape: Sequence[int]) -> Region:
        starts = [self.integer(0, size - 1) for size in shape]
        return Region(tuple(Interval(start, start + 1) for start in starts))

    def split(self, size: int) -> list[Interval]:
        """Uneven consecutive intervals that cover ``[0, size)``, for one to five devices; empty ones too."""
        inner = sorted(self.integer(0, size) for _ in range(self.integer(0, 4)))
        bounds = [0, *inner, size]
        return [Interval(a, b) for a, b in pairwise(bounds)]


DrawCase = Callable[[Draw], Case]


@dataclass(frozen=True, kw_only=True)
class Family:
    """One row of the suite.

    Attributes:
        draw: Draws one case; it may raise what torch raises for an illegal configuration.
        targets: Every overload that it draws.
        num_cases: How many the fast suite takes.
        is_arithmetic: A cut costs FLOPs; otherwise elements only move.
        min_exact: At least this share of random regions must come out as they were asked for, not widened.
    """

    draw: DrawCase
    targets: tuple[str, ...]
    num_cases: int = 250
    is_arithmetic: bool = True
    min_exact: float = 1.0


class Rejected(Exception):
    """What was drawn is of no use: an empty tensor, or too large a one."""


def build(target: str, *, output: int = 0, **arguments: Any) -> Case:
    """Return ``target`` called with these arguments, the schema's defaults filled in, and its result.

    Of several results the one that counts is number ``output``.
    """
    function = overload(target)
    tensors: dict[str, torch.Tensor] = {}

    def refer(key: str, value: Any) -> Value:
        if isinstance(value, torch.Tensor):
            known = next((name for name, tensor in tensors.items() if tensor is value), key)
            tensors[known] = value
            return TensorRef(known)
        if isinstance(value, list | tuple):
            return tuple(refer(f"{key}{index}", item) for index, item in enumerate(value))  # type: ignore[misc]
        if isinstance(value, torch.dtype):
            return Symbol("dtype", str(value).removeprefix("torch."))
        if isinstance(value, float) and not math.isfinite(value):
            return Symbol("float", str(value))
        return value  # type: ignore[no-any-return]

    given = [
        (argument.name, arguments.pop(argument.name, argument.default_value))
        for argument in function._schema.arguments
    ]
    assert not arguments, f"{target} has no arguments {sorted(arguments)}"
    filled = tuple((name, refer(name, value)) for name, value in given)
    results = call_overload(function, given)
    results = [results] if isinstance(results, torch.Tensor) else list(results)
    tensors["y"] = result = results[output]
    if not all(0 < tensor.numel() <= _MOST_ELEMENTS for tensor in tensors.values()):
        raise Rejected
    specs = {
        name: TensorSpec(shape=tuple(tensor.shape), dtype=str(tensor.dtype).removeprefix("torch."))
        for name, tensor in tensors.items()
    }
    return Case(
        op=Operator(
            name="case",
            target=target,
            arguments=filled,
            outputs=tuple("y" if index == output else "" for index in range(len(results))),
        ),
        specs=specs,
        tensors={name: to_array(tensor) for name, tensor in tensors.items() if name != "y"},
        expected=to_array(result),
    )


def draw_case(name: str, family: Family, *, seed: int, index: int) -> tuple[Case, Draw]:
    """Return case ``index`` of a family and the draw that goes on from it: the same for the same seed."""
    origin = f"draw_case({name!r}, FAMILIES[{name!r}], seed={seed}, index={index})"
    rng = np.random.default_rng([seed, zlib.crc32(name.encode()), index])
    for _ in range(_ATTEMPTS):
        draw = Draw(rng)
        try:
            return replace(family.draw(draw), origin=origin), draw
        except (RuntimeError, IndexError, Rejected):
            continue
    raise AssertionError(f"{name}: torch refused {_ATTEMPTS} draws in a row")


def program_of(case: Case, made: Cut) -> tuple[Program, dict[int, Array]]:
    """Return a program of one instruction that makes a cut, and its inputs: exactly the boxes that it needs.

    The result's buffer is the one after the inputs'.
    """
    needs = made.needs
    kernel = Kernel(
        operator=case.op.name,
        steps=made.steps,
        outputs=tuple((name, made.region) for name in case.op.outputs),
        flops=made.flops,
        num_bytes=0,
    )
    regions = {**needs, case.output: made.region}
    instruction = Compute(
        stage="",
        kernels=(kernel,),
        inputs=tuple((name, index) for index, name in enumerate(needs)),
        outputs=((case.output, len(needs)),),
    )
    program = Program(
        rank=0,
        instructions=(instruction,),
        buffers=tuple(Buffer(name, regions[name], case.specs[name].dtype) for name in (*needs, case.output)),
    )
    held = {
        index: np.array(case.tensors[name][region.slices(Region.full(case.specs[name].shape))])
        for index, (name, region) in enumerate(needs.items())
    }
    return program, held


def check_equal(
    case: Case, actual: Array, expected: Array, *, tolerances: Mapping[str, float] = TOLERANCES
) -> None:
    """Compare within what the dtypes of the case allow, relative to the largest value of its whole result."""
    dtype = case.specs[case.output].dtype
    assert actual.shape == expected.shape
    assert actual.dtype == expected.dtype
    if dtype not in tolerances:
        np.testing.assert_array_equal(actual, expected)
        return
    inputs = {case.specs[name].dtype for name in case.tensors} & tolerances.keys()
    tolerance = max(tolerances[name] for name in {dtype, *inputs})
    wide, true = actual.astype(np.float64), expected.astype(np.float64)
    limit = tolerance * case.largest
    with np.errstate(invalid="ignore"):
        is_close = bool((np.abs(wide - true) <= limit).all())
    if not is_close:  # slower: also takes equal infinities and NaNs, and says what differs
        np.testing.assert_allclose(wide, true, rtol=0, atol=limit)
