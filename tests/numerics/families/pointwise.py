"""Every pointwise operator that there is a rule for, its arguments drawn by the types of its schema."""

from __future__ import annotations

from typing import Any

import torch

from edgeflow.errors import UnsupportedOperatorError
from edgeflow.graph.aten import overload
from edgeflow.sharding.rules import pointwise
from tests.numerics.cases import Case, Draw, Family, build


def is_tensor_operator(target: str) -> bool:
    """Overloads of Python numbers (``aten.neg.Scalar``) share names with those of tensors."""
    try:
        schema = overload(target)._schema
    except UnsupportedOperatorError:
        return False
    takes_tensor = any("Tensor" in str(argument.type) for argument in schema.arguments)
    return takes_tensor and [str(value.type) for value in schema.returns] == ["Tensor"]


TARGETS = tuple(target for target in pointwise.RULES if is_tensor_operator(target))

_POSITIVE = ("log", "sqrt", "rsqrt", "pow", "reciprocal", "addcdiv")
_INTEGER = ("bitwise", "__and__", "__or__")
_EITHER = ("floor_divide", "remainder", "eq", "ne", "lt", "le", "gt", "ge", "add", "mul", "maximum", "where")


def _pointwise(d: Draw) -> Case:
    target = d.pick(*TARGETS)
    name = target.split(".")[1]
    shape = d.shape(0, 4)
    is_integer = name.startswith(_INTEGER) or (name in _EITHER and d.flag(0.3))
    is_bool = name.startswith(_INTEGER) and d.flag(0.3)

    def tensor(key: str) -> torch.Tensor:
        size = d.broadcastable(shape)
        if key in ("condition", "mask"):
            return d.bools(*size)
        if target in ("aten.masked_fill.Tensor", "aten.fill.Tensor") and key == "value":
            size = ()
        if is_bool:
            return d.bools(*size)
        if is_integer:  # equal numbers must occur, and zero must not divide
            return d.integers(*size, low=1)
        return d.tensor(*size, positive=name.startswith(_POSITIVE))

    def value(argument: Any) -> Any:
        kind = str(argument.type)
        if "Tensor" in kind:
            return None if kind.startswith("Optional") and d.flag() else tensor(argument.name)
        if argument.name == "dtype":
            return d.pick(None, torch.float32, torch.int64)
        if argument.name == "rounding_mode":
            return d.pick(None, "floor", "trunc")
        if argument.name == "approximate":
            return d.pick("none", "tanh")
        if argument.name in ("min", "max") and d.flag(0.3):
            return None
        if argument.has_default_value() and (d.flag() or argument.default_value is None):
            return argument.default_value
        if is_bool:
            return d.flag()
        return d.integer(1, 4) if is_integer else d.real(0.1, 2.0)

    arguments = {argument.name: value(argument) for argument in overload(target)._schema.arguments}
    if "other" in arguments and isinstance(arguments["self"], torch.Tensor) and d.flag(0.05):
        arguments["other"] = arguments["self"]
    return build(target, **arguments)


FAMILIES = {"pointwise": Family(draw=_pointwise, targets=TARGETS, num_cases=2500)}
