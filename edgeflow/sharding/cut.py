"""The local computation that makes one region of an operator's output.

A rule is asked once, "make this region", and returns a `Cut`: the slices to read, the local calls (padding,
sizes and offsets adapted to the slices), the region that results, and its cost. What a device needs, runs and
pays for all derive from this one value, so they cannot disagree.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from edgeflow.graph.ir import Symbol
from edgeflow.sharding.region import Interval, Region


class Slice(msgspec.Struct, frozen=True, gc=False, tag="slice", cache_hash=True):
    """An argument: a region of a tensor of the graph, in the coordinates of the whole tensor."""

    tensor: str
    region: Region


class Result(msgspec.Struct, frozen=True, gc=False, tag="result"):
    """An argument: the result of an earlier step of the same cut, by the step's index."""

    step: int


class Literal(msgspec.Struct, frozen=True, gc=False, tag="literal"):
    """An argument: a small constant tensor, values in row-major order."""

    shape: tuple[int, ...]
    values: tuple[float, ...]
    dtype: str = "float32"


LocalScalar = None | bool | int | float | str | Slice | Result | Literal | Symbol
LocalValue = LocalScalar | tuple[LocalScalar, ...]


class Step(msgspec.Struct, frozen=True, gc=False):
    """One local ATen call: ``target`` with ``arguments`` by name."""

    target: str
    arguments: tuple[tuple[str, LocalValue], ...]


class Cut(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The local computation of one region of an operator's output.

    Attributes:
        steps: Local calls in order. The last one returns the output, or a tuple if the operator has several
            outputs.
        region: The region that is made; it contains the requested one. With several outputs: the region of
            each if the rule is joint, else the region of the first, and every output is made whole.
        flops: Floating-point operations; one multiply-add counts as two.
        contraction: The interval of the summed-over dim if the output is a partial sum.
    """

    steps: tuple[Step, ...]
    region: Region
    flops: int
    contraction: Interval | None = None

    @property
    def slices(self) -> tuple[Slice, ...]:
        """Every slice that is read, in order; a slice that two arguments read appears twice."""
        return tuple(iter_slices(self.steps))

    @property
    def needs(self) -> dict[str, Region]:
        """Tensor name -> hull of the slices of that tensor that are read."""
        hulls: dict[str, Region] = {}
        for item in iter_slices(self.steps):
            known = hulls.get(item.tensor)
            hulls[item.tensor] = item.region if known is None else known.hull(item.region)
        return hulls


def renamed(steps: tuple[Step, ...], names: Mapping[str, str]) -> tuple[Step, ...]:
    """Return the steps with tensor ``x`` replaced by ``names[x]``."""
    return tuple(
        [
            Step(step.target, tuple([(key, _renamed(value, names)) for key, value in step.arguments]))
            for step in steps
        ]
    )


def _renamed(value: LocalValue, names: Mapping[str, str]) -> LocalValue:
    if isinstance(value, Slice):
        return Slice(names[value.tensor], value.region)
    if isinstance(value, tuple):
        return tuple(
            [Slice(names[item.tensor], item.region) if isinstance(item, Slice) else item for item in value]
        )
    return value


def iter_slices(steps: tuple[Step, ...]) -> Iterator[Slice]:
    """Yield every slice argument in order, including slices inside lists."""
    for step in steps:
        for _, value in step.arguments:
            if isinstance(value, Slice):
                yield value
            elif isinstance(value, tuple):
                for item in value:
                    if isinstance(item, Slice):
                        yield item
