"""Gathering and scattering by indices of the request: negative, repeated, of any shape."""

from __future__ import annotations

import math

from edgeflow.kernels.onnx_.emit import Arguments
from edgeflow.kernels.onnx_.graph import Graph
from edgeflow.kernels.onnx_.values import CannotEmit, Value, broadcast_shapes, dim_of


def _embedding(g: Graph, a: Arguments) -> Value:
    return g.gather(a.tensor("weight"), a.tensor("indices"), 0)


def _index_select(g: Graph, a: Arguments) -> Value:
    x, index = a.tensor("self"), a.tensor("index")
    if not x.ndim:
        return x
    return g.gather(x, g.reshape(index, (math.prod(index.shape),)), dim_of(a["dim"], x.ndim))


def _gather(g: Graph, a: Arguments) -> Value:
    x, index = a.tensor("self"), a.tensor("index")
    if not x.ndim or not index.ndim:
        made = g.gather(g.reshape(x, (-1,)), g.reshape(index, (-1,)), 0)
        return g.reshape(made, index.shape)
    return g.node("GatherElements", [x, index], index.shape, x.dtype, axis=dim_of(a["dim"], x.ndim))


def _take(g: Graph, a: Arguments) -> Value:
    x = a.tensor("self")
    return g.gather(g.reshape(x, (math.prod(x.shape),)), a.tensor("index"), 0)


def _take_along(g: Graph, a: Arguments) -> Value:
    x, index = a.tensor("self"), a.tensor("indices")
    if a.get("dim") is None:
        return _take(g, Arguments({"self": x, "index": g.reshape(index, (math.prod(index.shape),))}))
    dim = dim_of(a["dim"], x.ndim)
    others = [(*item.shape[:dim], 1, *item.shape[dim + 1 :]) for item in (x, index)]
    lead = broadcast_shapes(*others)
    source, places = (g.expand(item, (*lead[:dim], item.shape[dim], *lead[dim + 1 :])) for item in (x, index))
    return _gather(g, Arguments({"self": source, "index": places, "dim": dim}))


def _index(g: Graph, a: Arguments) -> Value:
    """Turn indices of several dims into one index of those dims, flattened."""
    x, given = a.tensor("self"), tuple(a["indices"])
    given += (None,) * (x.ndim - len(given))
    dims = [dim for dim, item in enumerate(given) if item is not None]
    if any(item is not None and item.dtype in ("bool", "uint8") for item in given):
        raise CannotEmit("a mask whose number of true elements is known only when it runs")
    if not dims:
        return x
    rest = [dim for dim in range(x.ndim) if dim not in dims]
    places = broadcast_shapes(*(given[dim].shape for dim in dims))
    moved = g.reshape(
        g.transpose(x, (*dims, *rest)),
        (math.prod(x.shape[dim] for dim in dims), *(x.shape[dim] for dim in rest)),
    )
    flat: Value | None = None
    for dim in dims:
        item = g.cast(given[dim], "int64")
        size = x.shape[dim]
        item = g.where(g.compare("Less", item, 0), g.add(item, size), item) if len(dims) > 1 else item
        flat = item if flat is None else g.add(g.mul(flat, size), item)
    assert flat is not None
    made = g.gather(moved, g.expand(flat, places), 0)
    # Adjacent indices leave the chosen dims in their place; others put them first.
    if dims == list(range(dims[0], dims[-1] + 1)) and dims[0] > 0:
        count, before = len(places), dims[0]
        order = (*range(count, count + before), *range(count), *range(count + before, made.ndim))
        made = g.transpose(made, order)
    return made


def _scatter(g: Graph, a: Arguments) -> Value:
    x, index = a.tensor("self"), a.tensor("index")
    if not x.ndim or not index.ndim:
        raise CannotEmit("a scatter of single numbers")
    source = a.get("src", a.get("value"))
    reduction = {"add": "add", "sum": "add", "multiply": "mul", "prod": "mul", "amax": "max", "amin": "min",
                 None: "none"}.get(a.get("reduce"))  # fmt: skip
    if reduction is None or not a.get("include_self", True) or x.dtype == "bool":
        raise CannotEmit(f"a scatter by {a.get('reduce')}")
    if isinstance(source, Value) and source.ndim:
        source = g.slice(source, [0] * source.ndim, index.shape, range(source.ndim))
    else:
        source = g.expand(g.of(source, x.dtype), index.shape)
    return g.node(
        "ScatterElements",
        [x, g.cast(index, "int64"), g.cast(source, x.dtype)],
        x.shape,
        x.dtype,
        axis=dim_of(a["dim"], x.ndim),
        reduction=reduction,
    )


def _scatter_add(g: Graph, a: Arguments) -> Value:
    return _scatter(g, Arguments({**a, "reduce": "add"}))


def _along(g: Graph, x: Value, a: Arguments, source: Value, reduction: str) -> Value:
    """Put slices of ``source`` at indices along one dim."""
    dim = dim_of(a["dim"], x.ndim)
    index = g.reshape(a.tensor("index"), [-1 if at == dim else 1 for at in range(x.ndim)])
    index = g.expand(g.cast(index, "int64"), (*x.shape[:dim], index.shape[dim], *x.shape[dim + 1 :]))
    source = g.expand(g.cast(source, x.dtype), index.shape)
    inputs = [x, index, source]
    return g.node("ScatterElements", inputs, x.shape, x.dtype, axis=dim, reduction=reduction)


def _index_add(g: Graph, a: Arguments) -> Value:
    x, source, alpha = a.tensor("self"), a.tensor("source"), a.get("alpha", 1)
    if not x.ndim:
        raise CannotEmit("an index of a single number")
    return _along(g, x, a, source if alpha == 1 else g.mul(source, alpha), "add")


def _index_copy(g: Graph, a: Arguments) -> Value:
    x = a.tensor("self")
    if not x.ndim:
        raise CannotEmit("an index of a single number")
    return _along(g, x, a, a.tensor("source"), "none")


def _index_fill(g: Graph, a: Arguments) -> Value:
    x = a.tensor("self")
    if not x.ndim:
        raise CannotEmit("an index of a single number")
    return _along(g, x, a, g.of(a["value"], x.dtype), "none")


def _one_hot(g: Graph, a: Arguments) -> Value:
    x, classes = a.tensor("self"), a.get("num_classes", -1)
    if classes < 0:
        raise CannotEmit("a number of classes that is known only when it runs")
    numbers = g.constant(range(classes), "int64")
    return g.cast(g.compare("Equal", g.reshape(x, (*x.shape, 1)), numbers), "int64")


def _bucketize(g: Graph, a: Arguments) -> Value:
    """Count the boundaries below each value."""
    x, boundaries = a["self"], a.tensor("boundaries")
    if not isinstance(x, Value):
        x = g.constant(x, boundaries.dtype)
    op = "LessOrEqual" if a.get("right") else "Less"
    below = g.compare(op, boundaries, g.reshape(x, (*x.shape, 1)))
    made = g.reduce("ReduceSum", g.cast(below, "int32"), [below.ndim - 1], keep=False)
    return g.cast(made, "int32" if a.get("out_int32") else "int64")


EMITTERS = {
    "embedding": _embedding,
    "index_select": _index_select,
    "gather": _gather,
    "take": _take,
    "take_along_dim": _take_along,
    **dict.fromkeys(("index.Tensor", "_unsafe_index.Tensor"), _index),
    **dict.fromkeys(
        ("scatter.src", "scatter.value", "scatter.reduce", "scatter.value_reduce", "scatter_reduce.two"),
        _scatter,
    ),
    "scatter_add": _scatter_add,
    "index_add": _index_add,
    "index_copy": _index_copy,
    **dict.fromkeys(("index_fill.int_Scalar", "index_fill.int_Tensor"), _index_fill),
    "one_hot": _one_hot,
    "bucketize.Tensor": _bucketize,
}
