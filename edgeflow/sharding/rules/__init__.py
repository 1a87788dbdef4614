"""Operator rules, one module per family; to add a family, add its module to `_FAMILIES`."""

from __future__ import annotations

from edgeflow.errors import InvalidPlanError
from edgeflow.graph.ir import Operator
from edgeflow.sharding.cut import Cut
from edgeflow.sharding.region import Interval, Region
from edgeflow.sharding.rules import (
    adaptive,
    attention,
    channelwise,
    conv,
    conv_transpose,
    einsum,
    fold,
    index,
    linear,
    norm,
    pointwise,
    pool,
    produce,
    reduce,
    remap,
    resample,
    scan,
    shape,
)
from edgeflow.sharding.rules.base import BARRIER, Rule, Specs

_FAMILIES = (
    adaptive,
    attention,
    channelwise,
    conv,
    conv_transpose,
    einsum,
    fold,
    index,
    linear,
    norm,
    pointwise,
    pool,
    produce,
    reduce,
    remap,
    resample,
    scan,
    shape,
)


def _collect() -> dict[str, Rule]:
    rules: dict[str, Rule] = {}
    for family in _FAMILIES:
        for target, rule in family.RULES.items():
            assert target not in rules, f"two rules for {target}"
            rules[target] = rule
    return rules


RULES = _collect()


def rule_of(op: Operator) -> Rule:
    """Return the rule of an operator; `BARRIER` if it has none, or has several outputs and no joint rule."""
    rule = RULES.get(op.target, BARRIER)
    return rule if len(op.outputs) == 1 or rule.is_joint else BARRIER


def cut(op: Operator, specs: Specs, region: Region, contraction: Interval | None = None) -> Cut:
    """Return the local computation that makes ``region`` of the output of ``op``.

    Args:
        region: A region of the output, not empty. With several outputs: of the first one that is read.
        contraction: If given, make only the partial sum over this interval of the summed-over dim; not empty.

    Raises:
        InvalidPlanError: If the region or the contraction is empty or out of bounds, or the operator cannot
            make partial sums.
    """
    _check_region(op, region, specs[op.first_output].shape)
    rule = rule_of(op)
    if contraction is not None and rule.contraction is not None:
        _check_contraction(op, contraction, rule.contraction(op, specs))
    made = rule.cut(op, specs, region, contraction)
    assert made.region.contains(region), f"{op.name}: {made.region} lacks {region}"
    return made


def _check_region(op: Operator, region: Region, shape: tuple[int, ...]) -> None:
    if len(region) != len(shape):
        raise InvalidPlanError(f"{op.name}: the region {region} has {len(region)} dims, not {len(shape)}")
    if region.is_empty:
        raise InvalidPlanError(f"{op.name}: the region {region} is empty")
    for (start, stop), size in zip(region.intervals, shape, strict=True):
        if start < 0 or stop > size:
            raise InvalidPlanError(f"{op.name}: the region {region} lies outside the shape {shape}")


def _check_contraction(op: Operator, contraction: Interval, size: int | None) -> None:
    if size is None:
        raise InvalidPlanError(f"{op.name} ({op.target}) cannot make partial sums of these operands")
    if contraction.length == 0 or not Interval(0, size).contains(contraction):
        start, stop = contraction
        raise InvalidPlanError(
            f"{op.name}: cannot make partial sums over [{start}:{stop}] of {size} elements"
        )


def contraction_size(op: Operator, specs: Specs) -> int | None:
    """Return the length of the dim that partial sums can be taken over, or None if they cannot."""
    contraction = rule_of(op).contraction
    return None if contraction is None else contraction(op, specs)
