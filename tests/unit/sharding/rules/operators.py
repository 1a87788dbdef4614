"""Operators on tensors of given shapes, for cuts that are worked out by hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeflow.graph.ir import Operator, TensorRef, TensorSpec, Value
from edgeflow.sharding.cut import Cut
from edgeflow.sharding.region import Interval, Region
from edgeflow.sharding.rules import cut


def box(*bounds: tuple[int, int]) -> Region:
    return Region.of(bounds)


def cut_of(
    target: str,
    shapes: Mapping[str, tuple[int, ...]],
    region: Region,
    contraction: Interval | None = None,
    /,
    **arguments: Value,
) -> Cut:
    """Return a cut of ``target``, whose output is ``y``; arguments that name a tensor are that tensor."""
    given = {
        key: TensorRef(value) if isinstance(value, str) and value in shapes else value
        for key, value in arguments.items()
    }
    op = Operator(name="op", target=target, arguments=tuple(given.items()), outputs=("y",))
    return cut(op, {name: TensorSpec(shape=shape) for name, shape in shapes.items()}, region, contraction)


def argument(made: Cut, name: str, step: int = -1) -> Any:
    return dict(made.steps[step].arguments)[name]


def targets(made: Cut) -> list[str]:
    return [step.target.split(".")[1] for step in made.steps]
