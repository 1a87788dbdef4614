"""What a rule is, and the helpers that rules share.

A rule answers `cut(op, specs, region, contraction)`: the local computation that makes ``region`` of the
output. It may answer with a larger region than it was asked for (whole groups, whole heads, whole rows of a
flattened map) when a smaller one is not a box of its inputs; it never answers with a smaller one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from edgeflow.errors import InvalidPlanError
from edgeflow.graph.ir import Operator, TensorRef, TensorSpec
from edgeflow.sharding.cut import Cut, LocalValue, Slice, Step
from edgeflow.sharding.region import Interval, Region

Specs = Mapping[str, TensorSpec]
CutFunction = Callable[[Operator, Specs, Region, Interval | None], Cut]


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """How a family of operators is cut.

    Attributes:
        cut: See the module's docstring.
        contraction: Returns the length of the dim that the operator sums over, if partial sums of it can
            be made on several devices and added; None where it cannot.
        is_view: The result shares its input's memory, so it costs neither arithmetic nor traffic.
        is_joint: Whether it speaks of operators of several outputs: all of one shape, a region is that of
            each of them.
        is_lookup: Only as much of its largest operand is read as comes out.
    """

    cut: CutFunction
    contraction: Callable[[Operator, Specs], int | None] | None = None
    is_view: bool = False
    is_lookup: bool = False
    is_joint: bool = False


def full(name: str, specs: Specs) -> Slice:
    """A whole tensor as an argument."""
    return Slice(name, Region.full(specs[name].shape))


def out_spec(op: Operator, specs: Specs) -> TensorSpec:
    return specs[op.output]


def localised(op: Operator, specs: Specs, **changes: LocalValue) -> Step:
    """Return ``op`` as a local call: arguments named in ``changes`` replaced, other tensors whole."""
    arguments = []
    for name, value in op.arguments:
        if name in changes:
            arguments.append((name, changes.pop(name)))
        elif isinstance(value, TensorRef):
            arguments.append((name, full(value.name, specs)))
        elif isinstance(value, tuple):
            arguments.append(
                (name, tuple(full(v.name, specs) if isinstance(v, TensorRef) else v for v in value))
            )
        else:
            arguments.append((name, value))
    if changes:
        raise InvalidPlanError(f"{op.name} ({op.target}) has no arguments {sorted(changes)}")
    return Step(op.target, tuple(arguments))


def call(target: str, **arguments: LocalValue) -> Step:
    """A local call written out."""
    return Step(target, tuple(arguments.items()))


def refuse_contraction(op: Operator, contraction: Interval | None) -> None:
    if contraction is not None:
        raise InvalidPlanError(f"{op.name} ({op.target}) cannot make partial sums")


def cut_whole(op: Operator, specs: Specs, region: Region, contraction: Interval | None) -> Cut:
    """The barrier: the operator as it stands, on whole inputs."""
    refuse_contraction(op, contraction)
    whole = Region.full(specs[op.first_output].shape)
    work = sum(specs[name].num_elements for name in op.used_outputs)
    return Cut(steps=(localised(op, specs),), region=whole, flops=work)


def move_whole(op: Operator, specs: Specs, region: Region, contraction: Interval | None) -> Cut:
    """`cut_whole` of an operator that only moves elements, and so costs no arithmetic."""
    return msgspec.structs.replace(cut_whole(op, specs, region, contraction), flops=0)


#: For operators that no rule covers: needs everything, runs anywhere, exact.
BARRIER = Rule(cut=cut_whole)


def broadcast(region: Region, spec: TensorSpec) -> Region:
    """The region of a broadcast operand that makes ``region`` of the result; dims align on the right."""
    offset = len(region) - spec.ndim
    return Region(
        tuple(Interval(0, 1) if size == 1 else region[offset + dim] for dim, size in enumerate(spec.shape))
    )


def pairs(value: Any, count: int) -> tuple[int, ...]:
    """Expand an ATen int list of length 1 or ``count`` to length ``count``."""
    values = tuple(value) if isinstance(value, tuple) else (value,)
    return values * count if len(values) == 1 else values


def normal_dim(dim: int, ndim: int) -> int:
    return dim + ndim if dim < 0 else dim
