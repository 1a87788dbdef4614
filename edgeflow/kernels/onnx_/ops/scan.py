"""Running sums, sorting and top-k along any dim."""

from __future__ import annotations

from edgeflow.kernels.onnx_.emit import Arguments
from edgeflow.kernels.onnx_.graph import Graph
from edgeflow.kernels.onnx_.values import CannotEmit, Value, dim_of


def _running_sum(g: Graph, a: Arguments) -> Value:
    x = a.tensor("self")
    dtype = a.dtype() or (x.dtype if x.is_float else "int64")
    x = g.cast(x, dtype)
    if not x.ndim:
        return x
    return g.node("CumSum", [x, g.constant(dim_of(a["dim"], x.ndim), "int64")], x.shape, x.dtype)


def _ordered(g: Graph, x: Value, count: int, dim: int, *, largest: bool) -> tuple[Value, Value]:
    """Emit the extreme elements in order, and their positions; ties keep their order."""
    if not x.ndim:
        return x, g.constant(0, "int64")
    if x.dtype == "bool":
        raise CannotEmit("an order of bools")
    dim = dim_of(dim, x.ndim)
    shape = (*x.shape[:dim], count, *x.shape[dim + 1 :])
    values, places = g.nodes(
        "TopK",
        [x, g.ints(count)],
        [(shape, x.dtype), (shape, "int64")],
        axis=dim,
        largest=int(largest),
        sorted=1,
    )
    return values, places


def _topk(g: Graph, a: Arguments) -> tuple[Value, ...]:
    return _ordered(g, a.tensor("self"), a["k"], a.get("dim", -1), largest=a.get("largest", True))


def _sort(g: Graph, a: Arguments) -> tuple[Value, ...]:
    x, dim = a.tensor("self"), a.get("dim", -1)
    count = x.shape[dim] if x.ndim else 1
    return _ordered(g, x, count, dim, largest=bool(a.get("descending")))


def _argsort(g: Graph, a: Arguments) -> Value:
    _, places = _sort(g, a)
    return places


EMITTERS = {
    "cumsum": _running_sum,
    "topk": _topk,
    **dict.fromkeys(("sort.default", "sort.stable"), _sort),
    **dict.fromkeys(("argsort.default", "argsort.stable"), _argsort),
}
