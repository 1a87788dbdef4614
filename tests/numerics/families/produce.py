"""Tensors made from numbers, and triangles of any tensor on any diagonal."""

from __future__ import annotations

import torch

from tests.numerics.cases import Case, Draw, Family, build

_FILLED = ("aten.full.default", "aten.zeros.default", "aten.ones.default")
_RANGES = ("aten.arange.default", "aten.arange.start", "aten.arange.start_step")


def _filled(d: Draw) -> Case:
    target, size = d.pick(*_FILLED), list(d.shape(0, 4))
    dtype = d.pick(None, torch.float64, torch.int64, torch.bool)
    if target == "aten.full.default":
        return build(target, size=size, fill_value=d.pick(0, 1, 2.5, float("-inf"), True), dtype=dtype)
    return build(target, size=size, dtype=dtype)


def _range(d: Draw) -> Case:
    target = d.pick(*_RANGES)
    numbers = {"end": d.pick(d.integer(1, 20), d.real(1, 20))}
    if target != "aten.arange.default":
        numbers["start"] = d.pick(d.integer(-9, 0), d.real(-9, 0))
    if target == "aten.arange.start_step":
        numbers["step"] = d.pick(1, 2, 3, 0.7, 2)
        if d.flag(0.3):
            numbers["start"], numbers["end"], numbers["step"] = 20, d.integer(-5, 10), d.pick(-1, -3)
    return build(target, **numbers, dtype=d.pick(None, None, torch.float32, torch.int32))


def _triangle(d: Draw) -> Case:
    x = d.pick(d.tensor, d.integers, d.bools)(*d.shape(2, 4))
    return build(d.pick("aten.tril.default", "aten.triu.default"), self=x, diagonal=d.integer(-4, 4))


FAMILIES = {
    "filled": Family(draw=_filled, targets=_FILLED, num_cases=100, is_arithmetic=False),
    "triangle": Family(draw=_triangle, targets=("aten.tril.default", "aten.triu.default")),
    "range": Family(draw=_range, targets=_RANGES, num_cases=100, is_arithmetic=False, min_exact=0.2),
}
