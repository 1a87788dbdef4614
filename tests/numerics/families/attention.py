"""Fused attention: no mask, boolean and additive masks, causal, grouped queries, operands that broadcast."""

from __future__ import annotations

import torch

from tests.numerics.cases import Case, Draw, Family, build

_TARGET = "aten.scaled_dot_product_attention.default"


def _mask(d: Draw, scores: tuple[int, ...]) -> torch.Tensor:
    shape = d.broadcastable(scores)
    shape = shape if len(shape) >= 2 else scores[-2:]
    if d.flag():
        return d.tensor(*shape)
    return d.bools(*shape, chance=0.7)  # now and then a query sees nothing, and gets zeros


def _attention(d: Draw) -> Case:
    lead, num_kv_heads = d.shape(0, 2, most=2), d.integer(1, 3)
    has_groups = d.flag(0.3)
    num_heads = num_kv_heads * d.integer(1, 3) if has_groups else num_kv_heads
    num_queries, num_keys = d.integer(1, 9), d.integer(1, 9)
    width, v_width = d.integer(1, 6), d.integer(1, 6)
    has_mask = d.flag(0.4)
    if d.flag(0.1):  # one tensor three times, of which queries and keys are other slices
        x = d.tensor(*lead, num_heads, num_queries, width)
        return build(_TARGET, query=x, key=x, value=x, is_causal=d.flag())
    return build(
        _TARGET,
        query=d.tensor(*lead, num_heads, num_queries, width),
        key=d.tensor(*lead, num_kv_heads, num_keys, width),
        value=d.tensor(*lead, num_kv_heads, num_keys, d.pick(width, v_width)),
        attn_mask=_mask(d, (*lead, num_heads, num_queries, num_keys)) if has_mask else None,
        is_causal=not has_mask and d.flag(),
        scale=d.pick(None, None, 0.3),
        enable_gqa=has_groups,
    )


def _broadcast_attention(d: Draw) -> Case:
    """Operands whose batch, heads or both broadcast, or that have no heads at all; masks do so anyhow."""
    lead = (d.integer(1, 3), d.integer(1, 4))[d.integer(0, 2) :]
    width, num_queries, num_keys = d.integer(1, 6), d.integer(1, 9), d.integer(1, 9)
    has_mask = d.flag(0.4)

    def shrunk() -> list[int]:
        return [1 if d.flag(0.4) else size for size in lead]

    q, k, v = shrunk(), shrunk(), shrunk()
    scores = [max(sizes) for sizes in zip(q, k, strict=True)]
    return build(
        _TARGET,
        query=d.tensor(*q, num_queries, width),
        key=d.tensor(*k, num_keys, width),
        value=d.tensor(*v, num_keys, d.pick(width, 3)),
        attn_mask=_mask(d, (*scores, num_queries, num_keys)) if has_mask else None,
        is_causal=not has_mask and d.flag(),
    )


FAMILIES = {
    "attention": Family(draw=_attention, targets=(_TARGET,), num_cases=600, min_exact=0.7),
    "attention_broadcast": Family(draw=_broadcast_attention, targets=(_TARGET,), num_cases=300),
}
