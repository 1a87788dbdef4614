"""Operator rules, one family a module; adding a family is adding a module to `_FAMILIES`."""

from __future__ import annotations

from edgeflow.errors import InvalidPlanError
from edgeflow.graph.ir import Operator
from edgeflow.sharding.cut import Cut
from edgeflow.sharding.region import Interval, Region
from edgeflow.sharding.rules import attention, conv, linear, norm, pointwise, pool, reduce, shape
from edgeflow.sharding.rules.base import BARRIER, Rule, Specs

_FAMILIES = (attention, conv, linear, norm, pointwise, pool, reduce, shape)


def _collect() -> dict[str, Rule]:
    rules: dict[str, Rule] = {}
    for family in _FAMILIES:
        for target, rule in family.RULES.items():
            assert target not in rules, f"two rules for {target}"
            rules[target] = rule
    return rules


RULES = _collect()


def rule_of(op: Operator) -> Rule:
    """Return the rule for an operator; `BARRIER` where there is none, or where it has several outputs."""
    if len(op.outputs) != 1:
        return BARRIER
    return RULES.get(op.target, BARRIER)


def cut(op: Operator, specs: Specs, region: Region, contraction: Interval | None = None) -> Cut:
    """Return the local computation that makes ``region`` of the output of ``op``.

    Args:
        region: In the output's coordinates; must not be empty.
        contraction: Make only the partial sum over this interval of the summed-over dim.

    Raises:
        InvalidPlanError: If the region is empty or outside of the tensor, or the operator cannot make
            partial sums.
    """
    if region.is_empty:
        raise InvalidPlanError(f"{op.name}: asked for an empty region {region}")
    made = rule_of(op).cut(op, specs, region, contraction)
    assert made.region.contains(region), f"{op.name}: {made.region} lacks {region}"
    return made


def contraction_size(op: Operator, specs: Specs) -> int | None:
    """Return the length of the dim that partial sums can be taken over, or None."""
    contraction = rule_of(op).contraction
    return None if contraction is None else contraction(op, specs)
