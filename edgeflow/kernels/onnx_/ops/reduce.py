"""Reductions over one dim, several or all, kept or not."""

from __future__ import annotations

import math

from edgeflow.kernels.onnx_.emit import Arguments, Emitter
from edgeflow.kernels.onnx_.graph import Graph
from edgeflow.kernels.onnx_.values import CannotEmit, Value, dim_of, dims_of


def chosen_dims(a: Arguments, x: Value) -> tuple[int, ...]:
    """Return the dims of a reduction; all dims if the call names none."""
    return dims_of(a.get("dim"), x.ndim) if x.ndim else ()


def _typed(g: Graph, a: Arguments, x: Value) -> Value:
    dtype = a.dtype()
    return x if dtype is None else g.cast(x, dtype)


def _sum(op: str) -> Emitter:
    def emit(g: Graph, a: Arguments) -> Value:
        x = _typed(g, a, a.tensor("self"))
        if not x.is_float:
            if op == "ReduceMean":
                raise CannotEmit("a mean of integers")
            x = x if a.dtype() is not None else g.cast(x, "int64")
        return g.reduce(op, x, chosen_dims(a, x), keep=bool(a.get("keepdim")))

    return emit


def _extreme(op: str) -> Emitter:
    def emit(g: Graph, a: Arguments) -> Value:
        x = a.tensor("self")
        if x.dtype == "bool":
            made = g.reduce(op, g.cast(x, "int32"), chosen_dims(a, x), keep=bool(a.get("keepdim")))
            return g.cast(made, "bool")
        return g.reduce(op, x, chosen_dims(a, x), keep=bool(a.get("keepdim")))

    return emit


def _along(op: str, where: str) -> Emitter:
    """Emit the extreme along one dim, and its first position."""

    def emit(g: Graph, a: Arguments) -> tuple[Value, ...]:
        x = a.tensor("self")
        if not x.ndim or x.dtype == "bool":
            raise CannotEmit("extremes of a single number, or of bools")
        dim, keep = dim_of(a["dim"], x.ndim), bool(a.get("keepdim"))
        return g.reduce(op, x, [dim], keep=keep), _place(g, where, x, dim, keep=keep)

    return emit


def _place(g: Graph, op: str, x: Value, dim: int, *, keep: bool) -> Value:
    shape = (*x.shape[:dim], *([1] if keep else []), *x.shape[dim + 1 :])
    return g.node(op, [x], shape, "int64", axis=dim, keepdims=int(keep))


def _argument(op: str) -> Emitter:
    def emit(g: Graph, a: Arguments) -> Value:
        x, dim, keep = a.tensor("self"), a.get("dim"), bool(a.get("keepdim"))
        if dim is None or not x.ndim:
            made = _place(g, op, g.reshape(x, (math.prod(x.shape),)), 0, keep=False)
            return g.reshape(made, (1,) * x.ndim if keep else ())
        return _place(g, op, x, dim_of(dim, x.ndim), keep=keep)

    return emit


def _truth(op: str) -> Emitter:
    def emit(g: Graph, a: Arguments) -> Value:
        x = a.tensor("self")
        made = g.reduce(
            op, g.cast(g.cast(x, "bool"), "int32"), chosen_dims(a, x), keep=bool(a.get("keepdim"))
        )
        return g.cast(made, "bool")

    return emit


def _variance(*, root: bool) -> Emitter:
    def emit(g: Graph, a: Arguments) -> Value:
        x = a.tensor("self")
        dims = chosen_dims(a, x)
        correction = a.get("correction")
        if correction is None:
            correction = 1 if a.get("unbiased", True) else 0
        count = math.prod(x.shape[dim] for dim in dims)
        if count - correction <= 0:
            raise CannotEmit("a variance of too few numbers")
        gap = g.sub(x, g.reduce("ReduceMean", x, dims, keep=True))
        total = g.reduce("ReduceSum", g.mul(gap, gap), dims, keep=bool(a.get("keepdim")))
        made = g.mul(total, 1 / (count - correction))
        return g.unary("Sqrt", made) if root else made

    return emit


def _log_sum_exp(g: Graph, a: Arguments) -> Value:
    x = a.tensor("self")
    dims = chosen_dims(a, x)
    high = g.reduce("ReduceMax", x, dims, keep=True)
    finite = g.where(g.unary("IsInf", high, "bool"), g.constant(0, x.dtype), high)
    total = g.reduce("ReduceSum", g.unary("Exp", g.sub(x, finite)), dims, keep=True)
    made = g.add(g.unary("Log", total), finite)
    if a.get("keepdim"):
        return made
    return g.reshape(made, [size for dim, size in enumerate(x.shape) if dim not in dims])


EMITTERS = {
    **dict.fromkeys(("sum.default", "sum.dim_IntList"), _sum("ReduceSum")),
    **dict.fromkeys(("mean.default", "mean.dim"), _sum("ReduceMean")),
    **dict.fromkeys(("prod.default", "prod.dim_int"), _sum("ReduceProd")),
    **dict.fromkeys(("amax", "max.default"), _extreme("ReduceMax")),
    **dict.fromkeys(("amin", "min.default"), _extreme("ReduceMin")),
    "max.dim": _along("ReduceMax", "ArgMax"),
    "min.dim": _along("ReduceMin", "ArgMin"),
    "argmax": _argument("ArgMax"),
    "argmin": _argument("ArgMin"),
    **dict.fromkeys(("any.default", "any.dim", "any.dims"), _truth("ReduceMax")),
    **dict.fromkeys(("all.default", "all.dim", "all.dims"), _truth("ReduceMin")),
    **dict.fromkeys(("var.correction", "var.dim", "var.default"), _variance(root=False)),
    **dict.fromkeys(("std.correction", "std.dim", "std.default"), _variance(root=True)),
    "logsumexp": _log_sum_exp,
}
