"""Reductions over one dim, several or all, kept or not; some can be summed over devices."""

from __future__ import annotations

from typing import Any

import torch

from tests.numerics.cases import Case, Draw, DrawCase, Family, build


def _dims(d: Draw, ndim: int) -> list[int]:
    return [dim - d.pick(0, ndim) for dim in d.some(range(ndim))]


def _sums(name: str, overload_name: str) -> DrawCase:
    def draw(d: Draw) -> Case:
        if d.flag(0.2):
            return build(f"aten.{name}.default", self=d.tensor(*d.shape(0, 4)))
        x = d.tensor(*d.shape(0, 4))
        more: dict[str, Any] = {}
        if name == "sum" and d.flag(0.2):
            x = d.integers(*x.shape)
        elif d.flag(0.2):
            more["dtype"] = torch.float64
        dims = d.pick(None, [], _dims(d, x.ndim), _dims(d, x.ndim), _dims(d, x.ndim))
        return build(f"aten.{name}.{overload_name}", self=x, dim=dims, keepdim=d.flag(), **more)

    return draw


_SEVERAL_DIMS = (
    "aten.amax.default", "aten.amin.default", "aten.var.correction", "aten.var.dim",
    "aten.std.correction", "aten.std.dim", "aten.linalg_vector_norm.default",
)  # fmt: skip
_ONE_DIM = ("aten.any.dim", "aten.all.dim", "aten.argmax.default", "aten.argmin.default")


def _others(d: Draw) -> Case:
    target = d.pick(*_SEVERAL_DIMS, *_ONE_DIM)
    x = d.tensor(*d.shape(0, 4))
    dims: Any = _dims(d, x.ndim)
    more: dict[str, Any] = {}
    if target in _ONE_DIM:
        dims = dims[0] if dims else 0
        if "arg" in target:
            dims = d.pick(None, dims, dims)
        else:
            x = d.bools(*x.shape, chance=0.7)
    elif target.startswith("aten.am"):
        dims = d.pick([], dims, dims)
    else:
        dims = d.pick(None, dims, dims)
    if target.endswith(".correction"):
        more["correction"] = d.pick(None, 0, 1, 0.5)
    elif target in ("aten.var.dim", "aten.std.dim"):
        more["unbiased"] = d.flag()
    elif target == "aten.linalg_vector_norm.default":
        more["ord"] = d.pick(0, 1, 2, 3.5, float("inf"), float("-inf"))
    return build(target, self=x, dim=dims, keepdim=d.flag(), **more)


FAMILIES = {
    "mean": Family(draw=_sums("mean", "dim"), targets=("aten.mean.dim", "aten.mean.default")),
    "sum": Family(draw=_sums("sum", "dim_IntList"), targets=("aten.sum.dim_IntList", "aten.sum.default")),
    "reduce": Family(draw=_others, targets=(*_SEVERAL_DIMS, *_ONE_DIM), num_cases=500),
}
