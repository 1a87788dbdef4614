"""Fused attention: ``scaled_dot_product_attention`` over ``q_..LE``, ``k_..SE``, ``v_..SV``.

Cut along batch, heads (inside one group of queries that share a key-value head, or whole groups), query
positions and value features. A causal mask on a range of queries becomes an explicit mask over the keys that
they may see.
"""

from __future__ import annotations

from edgeflow.graph.ir import Operator, Symbol
from edgeflow.sharding.cut import Cut, LocalScalar, Result, Slice, Step
from edgeflow.sharding.region import Interval, Region
from edgeflow.sharding.rules.base import (
    Rule,
    Specs,
    broadcast,
    call,
    cut_whole,
    localised,
    refuse_contraction,
)


def _cut(op: Operator, specs: Specs, region: Region, contraction: Interval | None) -> Cut:
    refuse_contraction(op, contraction)
    q, k, v, mask = (op.arg(key) for key in ("query", "key", "value", "attn_mask"))
    q_spec, k_spec, v_spec = specs[q.name], specs[k.name], specs[v.name]
    if not _is_plain(q_spec.shape, k_spec.shape, v_spec.shape):
        return cut_whole(op, specs, region, contraction)
    head_dim = q_spec.ndim - 3
    region, kv_heads = _whole_groups(region, head_dim, q_spec.shape[head_dim], k_spec.shape[head_dim])
    queries, features = region[head_dim + 1], region[head_dim + 2]
    is_causal = bool(op.arg("is_causal"))
    is_partial_causal = is_causal and queries != Interval(0, q_spec.shape[-2])
    last_key = min(queries.stop, k_spec.shape[-2]) if is_partial_causal else k_spec.shape[-2]
    keys = Interval(0, last_key)
    lead = region.intervals[:head_dim]

    steps: tuple[Step, ...] = ()
    local_mask: LocalScalar = None
    if is_partial_causal:
        steps = _causal_mask(queries, keys)
        local_mask = Result(len(steps) - 1)
    elif mask is not None:
        scores = Region((*lead, region[head_dim], queries, keys))
        local_mask = Slice(mask.name, broadcast(scores, specs[mask.name]))
    steps += (
        localised(
            op,
            specs,
            query=Slice(q.name, Region((*lead, region[head_dim], queries, Interval(0, q_spec.shape[-1])))),
            key=Slice(k.name, Region((*lead, kv_heads, keys, Interval(0, k_spec.shape[-1])))),
            value=Slice(v.name, Region((*lead, kv_heads, keys, features))),
            attn_mask=local_mask,
            is_causal=is_causal and not is_partial_causal,
        ),
    )
    num_scores = region.num_elements // max(1, features.length) * keys.length
    flops = 2 * num_scores * (q_spec.shape[-1] + features.length) + 10 * num_scores
    return Cut(steps=steps, region=region, flops=flops)


def _is_plain(q: tuple[int, ...], k: tuple[int, ...], v: tuple[int, ...]) -> bool:
    """Whether nothing broadcasts but key-value heads, each to as many query heads as the next."""
    if not len(q) == len(k) == len(v) >= 3:
        return False
    return q[:-3] == k[:-3] == v[:-3] and k[-3] == v[-3] and q[-3] % k[-3] == 0


def _whole_groups(
    region: Region, head_dim: int, num_heads: int, num_kv_heads: int
) -> tuple[Region, Interval]:
    """Return a region of whole groups, unless it lies inside one, and the key-value heads that it reads."""
    heads, group = region[head_dim], num_heads // num_kv_heads
    kv_heads = Interval(heads.start // group, -(-heads.stop // group))
    if kv_heads.length == 1:
        return region, kv_heads
    return region.replace(head_dim, Interval(kv_heads.start * group, kv_heads.stop * group)), kv_heads


def _causal_mask(queries: Interval, keys: Interval) -> tuple[Step, ...]:
    """Steps that make the rows ``queries`` of a lower-triangular mask over ``keys``."""
    ones = call(
        "aten.full.default",
        size=(queries.length, keys.length),
        fill_value=True,
        dtype=Symbol("dtype", "bool"),
    )
    return ones, call("aten.tril.default", self=Result(0), diagonal=queries.start)


RULES = {"aten.scaled_dot_product_attention.default": Rule(cut=_cut)}
