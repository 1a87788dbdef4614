"""Emitters, one module per family; to add a family, add its module to `_FAMILIES`.

An emitter takes the graph and the arguments of one ATen call, and writes the call in ONNX, exactly, or raises
`CannotEmit`; the call then runs on torch where that is installed. It is found by ``name.overload``, or by
``name`` alone where all overloads mean the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from edgeflow.kernels.onnx_.emit import Emitter
from edgeflow.kernels.onnx_.ops import (
    activation,
    arithmetic,
    attention,
    bounds,
    conv,
    index,
    linear,
    norm,
    pointwise,
    pool,
    produce,
    real,
    reduce,
    remap,
    resample,
    scan,
    shape,
)

_FAMILIES = (
    activation,
    arithmetic,
    attention,
    bounds,
    conv,
    index,
    linear,
    norm,
    pointwise,
    pool,
    produce,
    real,
    reduce,
    remap,
    resample,
    scan,
    shape,
)


def _collect() -> Mapping[str, Emitter]:
    found: dict[str, Emitter] = {}
    for family in _FAMILIES:
        for target, emitter in family.EMITTERS.items():
            assert target not in found, f"two emitters for {target}"
            found[target] = emitter
    return MappingProxyType(found)


EMITTERS = _collect()


def has_emitter(target: str) -> bool:
    """Return whether an overload has an emitter.

    Examples:
        >>> has_emitter("aten.conv2d.default"), has_emitter("aten.nonzero.default")
        (True, False)
    """
    _, name, overload = target.split(".")
    return f"{name}.{overload}" in EMITTERS or name in EMITTERS
