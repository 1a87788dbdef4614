"""What the shared suite of the operator rules draws from, by name; a new family is one more module here."""

from __future__ import annotations

from tests.numerics.cases import Family
from tests.numerics.families import (
    attention,
    barrier,
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

FAMILIES: dict[str, Family] = {
    name: family
    for module in (
        conv,
        conv_transpose,
        fold,
        pool,
        linear,
        attention,
        norm,
        channelwise,
        pointwise,
        reduce,
        remap,
        resample,
        shape,
        index,
        scan,
        produce,
        einsum,
        barrier,
    )
    for name, family in module.FAMILIES.items()
}
