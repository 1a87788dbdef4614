"""Operator rules, one family a module; adding a family is adding a module to `_FAMILIES`."""

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
    """Return the rule for an operator; `BARRIER` where there is none, or it does not speak of all outputs."""
    rule = RULES.get(op.target, BARRIER)
    return rule if len(op.outputs) == 1 or rule.is_joint else BARRIER


def cut(op: Operator, specs: Specs, region: Region, contraction: Interval | None = None) -> Cut:
    """Return the local computation that makes ``region`` of the output of ``op``.

    Args:
        region: In the coordinates of the output (of several: of the first that is read); not empty.
        contraction: Make only the partial sum over this interval of the summed-over dim; not empty.

    Raises:
        InvalidPlanError: If the region or the interval is empty or lies outside, or the operator cannot
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
        raise InvalidPlanError(f"{op.name}: asked for an empty region {region}")
    for (start, stop), size in zip(region.intervals, shape, strict=True):
        if start < 0 or stop > size:
            raise InvalidPlanError(f"{op.name}: the region {region} lies outside of the shape {shape}")


def _check_contraction(op: Operator, contraction: Interval, size: int | None) -> None:
    if size is None:
        raise InvalidPlanError(f"{op.name} ({op.target}) cannot make partial sums of these operands")
    if contraction.length == 0 or not Interval(0, size).contains(contraction):
        start, stop = contraction
        raise InvalidPlanError(f"{op.name}: partial sums over [{start}:{stop}] of {size} elements")


def contraction_size(op: Operator, specs: Specs) -> int | None:
    """Return the length of the dim that partial sums can be taken over, or None."""
    contraction = rule_of(op).contraction
    return None if contraction is None else contraction(op, specs)
