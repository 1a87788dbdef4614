"""Fused attention over ``q_..LE``, ``k_..SE``, ``v_..SV``: masks, causal masks, grouped queries."""

from __future__ import annotations

import math

import numpy as np

from edgeflow.kernels.onnx_.emit import Arguments
from edgeflow.kernels.onnx_.graph import Graph
from edgeflow.kernels.onnx_.values import CannotEmit, Value


def _attention(g: Graph, a: Arguments) -> Value:
    q, k, v = a.tensor("query"), a.tensor("key"), a.tensor("value")
    if a.get("dropout_p"):
        raise CannotEmit("dropout")
    scale = a.get("scale")
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else float(scale)
    mask = _mask(g, a, (q.shape[-2], k.shape[-2]))
    if a.get("enable_gqa"):
        k, v = (_repeated(g, item, q.shape[-3]) for item in (k, v))
    scores = g.matmul(q, k, transpose_b=True, alpha=scale)
    seen = None
    if mask is not None:
        bias, seen = _bias(g, mask, q.dtype)
        scores = g.add(scores, bias)
    weights = g.node("Softmax", [scores], scores.shape, scores.dtype, axis=-1)
    made = g.matmul(weights, v)
    # A query without any visible key gets zeros.
    return made if seen is None else g.where(seen, made, g.constant(0, made.dtype))


def _mask(g: Graph, a: Arguments, scores: tuple[int, int]) -> Value | None:
    if a.get("is_causal"):
        return g.constant(np.tril(np.ones(scores, np.bool_)))
    return a.optional("attn_mask")


def _bias(g: Graph, mask: Value, dtype: str) -> tuple[Value, Value | None]:
    """Return the term to add to scores, and which queries have a visible key; None if all have."""
    last = mask.ndim - 1
    known, lowest = g.known(mask), 0.0 if mask.dtype == "bool" else -math.inf
    sees_all = known is not None and bool((known.astype(np.float32).max(-1) > lowest).all())
    if mask.dtype == "bool":
        bias = g.where(mask, g.constant(0, dtype), g.constant(-math.inf, dtype), dtype=dtype)
        if sees_all:
            return bias, None
        seen = g.cast(g.reduce("ReduceMax", g.cast(mask, "int32"), [last], keep=True), "bool")
    else:
        bias = g.cast(mask, dtype)
        if sees_all:
            return bias, None
        seen = g.compare("Greater", g.reduce("ReduceMax", bias, [last], keep=True), -math.inf)
    return bias, seen


def _repeated(g: Graph, x: Value, num_heads: int) -> Value:
    """Repeat each key and value head once per query head that shares it."""
    *lead, heads, length, width = x.shape
    count = num_heads // heads
    if count == 1:
        return x
    wide = g.expand(g.reshape(x, (*lead, heads, 1, length, width)), (*lead, heads, count, length, width))
    return g.reshape(wide, (*lead, num_heads, length, width))


EMITTERS = {"scaled_dot_product_attention": _attention}
