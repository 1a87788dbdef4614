"""The `Rule` type and helpers that rules share.

A rule's ``cut(op, specs, region, contraction)`` returns the local computation that makes ``region`` of the
output. The computation may make a larger region (whole groups, whole heads, whole rows of a flattened map)
if the requested one does not come from a box of the inputs; it never makes a smaller one.
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
        contraction: Returns the length of the dim that the operator sums over, or None if these operands do
            not allow partial sums on several devices.
        is_view: The result shares the input's memory, so the operator costs no arithmetic and no memory
            traffic.
        is_lookup: The operator reads only as many elements of its largest operand as it returns.
        is_joint: The rule also covers operators with several outputs: all have one shape, and the region
            applies to each of them.
    """

    cut: CutFunction
    contraction: Callable[[Operator, Specs], int | None] | None = None
    is_view: bool = False
    is_lookup: bool = False
    is_joint: bool = False


def full(name: str, specs: Specs) -> Slice:
    """Return a whole tensor as an argument."""
    return Slice(name, Region.full(specs[name].shape))


def out_spec(op: Operator, specs: Specs) -> TensorSpec:
    """Return the spec of the operator's first output."""
    return specs[op.output]


def localised(op: Operator, specs: Specs, **changes: LocalValue) -> Step:
    """Return ``op`` as a local call: ``changes`` replace arguments by name, other tensors are read whole.

    Raises:
        InvalidPlanError: If ``changes`` names an argument that the operator lacks.
    """
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
    """Return a local call of ``target``."""
    return Step(target, tuple(arguments.items()))


def refuse_contraction(op: Operator, contraction: Interval | None) -> None:
    """Raise `InvalidPlanError` if a partial sum is requested."""
    if contraction is not None:
        raise InvalidPlanError(f"{op.name} ({op.target}) cannot make partial sums")


def cut_whole(op: Operator, specs: Specs, region: Region, contraction: Interval | None) -> Cut:
    """Return the cut that runs the operator unchanged on whole inputs."""
    refuse_contraction(op, contraction)
    whole = Region.full(specs[op.first_output].shape)
    work = sum(specs[name].num_elements for name in op.used_outputs)
    return Cut(steps=(localised(op, specs),), region=whole, flops=work)


def move_whole(op: Operator, specs: Specs, region: Region, contraction: Interval | None) -> Cut:
    """Return `cut_whole` of an operator that only moves elements: no FLOPs."""
    return msgspec.structs.replace(cut_whole(op, specs, region, contraction), flops=0)


#: The rule for operators that no other rule covers: exact, but needs all of every input.
BARRIER = Rule(cut=cut_whole)


def broadcast(region: Region, spec: TensorSpec) -> Region:
    """Return the region of a broadcast operand that ``region`` of the result needs; dims align right."""
    offset = len(region) - spec.ndim
    return Region(
        tuple(Interval(0, 1) if size == 1 else region[offset + dim] for dim, size in enumerate(spec.shape))
    )


def pairs(value: Any, count: int) -> tuple[int, ...]:
    """Expand an ATen int list of length 1 or ``count`` to length ``count``."""
    values = tuple(value) if isinstance(value, tuple) else (value,)
    return values * count if len(values) == 1 else values


def normal_dim(dim: int, ndim: int) -> int:
    """Return a dim counted from the front; negative ones count from the end."""
    return dim + ndim if dim < 0 else dim
