"""Tensors from numbers (fills, ranges), and triangles of tensors at any diagonal."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from edgeflow.graph.ir import NUMPY_DTYPES
from edgeflow.kernels.onnx_.emit import Arguments, Emitter
from edgeflow.kernels.onnx_.graph import Graph
from edgeflow.kernels.onnx_.values import CannotEmit, Value, number_dtype


def _filled(value: float | None) -> Emitter:
    def emit(g: Graph, a: Arguments) -> Value:
        fill: Any = a["fill_value"] if value is None else value
        if isinstance(fill, Value):
            raise CannotEmit("a filling that is computed")
        dtype = a.dtype() or ("float32" if value is not None else number_dtype(fill))
        return g.expand(g.constant(fill, dtype), a.ints("size"))

    return emit


def _new(value: float | None) -> Emitter:
    def emit(g: Graph, a: Arguments) -> Value:
        fill: Any = a["fill_value"] if value is None else value
        return g.expand(g.constant(fill, a.dtype() or a.tensor("self").dtype), a.ints("size"))

    return emit


def _scalar(g: Graph, a: Arguments) -> Value:
    return g.constant(a["s"], a.dtype() or "float32")


def _range(g: Graph, a: Arguments) -> Value:
    start, end, step = a.get("start", 0), a["end"], a.get("step", 1)
    dtype = a.dtype() or ("int64" if all(isinstance(item, int) for item in (start, end, step)) else "float32")
    count = max(0, math.ceil((end - start) / step))
    kind = NUMPY_DTYPES[dtype]
    # As in torch: integers in integers, floats in 64 bits, rounded once.
    if kind.kind in "iu":
        return g.constant((int(start) + int(step) * np.arange(count)).astype(kind))
    return g.constant((start + step * np.arange(count, dtype=np.float64)).astype(kind))


def _triangle(*, upper: bool) -> Emitter:
    def emit(g: Graph, a: Arguments) -> Value:
        x = a.tensor("self")
        keep = np.tri(x.shape[-2], x.shape[-1], a.get("diagonal", 0) - (1 if upper else 0), np.bool_)
        mask = g.constant(~keep if upper else keep)
        if x.dtype == "bool":
            return g.binary("And", x, mask)
        return g.where(mask, x, g.constant(0, x.dtype))

    return emit


EMITTERS = {
    "full": _filled(None),
    "zeros": _filled(0),
    "ones": _filled(1),
    "new_full": _new(None),
    "new_zeros": _new(0),
    "new_ones": _new(1),
    "scalar_tensor": _scalar,
    **dict.fromkeys(("arange.default", "arange.start", "arange.start_step"), _range),
    "tril": _triangle(upper=False),
    "triu": _triangle(upper=True),
}
