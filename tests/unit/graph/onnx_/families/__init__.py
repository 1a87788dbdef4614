"""Cases for every operator; a new family is one more module here."""

from __future__ import annotations

from tests.unit.graph.onnx_.families import (
    activation,
    arithmetic,
    attention,
    constant,
    conv,
    index,
    linear,
    microsoft,
    norm,
    pad,
    pool,
    quantize,
    reduce,
    resize,
    shape,
)
from tests.unit.graph.onnx_.onnx_cases import Case

CASES: list[Case] = [
    case
    for module in (
        activation,
        arithmetic,
        attention,
        constant,
        conv,
        index,
        linear,
        microsoft,
        norm,
        pad,
        pool,
        quantize,
        reduce,
        resize,
        shape,
    )
    for case in module.CASES
]
