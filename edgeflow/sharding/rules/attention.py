"""Fused attention: ``scaled_dot_product_attention`` over ``q_..LE``, ``k_..SE``, ``v_..SV``.

Cut along batch, heads, query positions and value features. With grouped queries, heads are cut within one
group (the query heads that share a key-value head) or into whole groups. For a range of query positions, a
causal mask becomes an explicit mask over the keys that they may attend to.
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
    q_shape, k_shape, v_shape = (specs[ref.name].shape for ref in (q, k, v))
    kv_lead = lead = region.intervals[:-2]
    if op.arg("enable_gqa"):
        if not _has_groups(q_shape, k_shape, v_shape):
            return cut_whole(op, specs, region, contraction)
        region, kv_heads = _whole_groups(region, len(region) - 3, q_shape[-3], k_shape[-3])
        lead = region.intervals[:-2]
        kv_lead = (*lead[:-1], kv_heads)
    queries, features = region[len(region) - 2], region[len(region) - 1]
    is_causal = bool(op.arg("is_causal"))
    is_partial_causal = is_causal and queries != Interval(0, q_shape[-2])
    keys = Interval(0, min(queries.stop, k_shape[-2]) if is_partial_causal else k_shape[-2])

    steps: tuple[Step, ...] = ()
    local_mask: LocalScalar = None
    if is_partial_causal:
        steps = _causal_mask(queries, keys)
        local_mask = Result(len(steps) - 1)
    elif mask is not None:
        scores = Region((*lead, queries, keys))
        local_mask = Slice(mask.name, broadcast(scores, specs[mask.name]))
    width = Interval(0, q_shape[-1])
    steps += (
        localised(
            op,
            specs,
            query=_operand(q.name, specs, (*lead, queries, width)),
            key=_operand(k.name, specs, (*kv_lead, keys, width)),
            value=_operand(v.name, specs, (*kv_lead, keys, features)),
            attn_mask=local_mask,
            is_causal=is_causal and not is_partial_causal,
        ),
    )
    num_scores = region.num_elements // max(1, features.length) * keys.length
    flops = 2 * num_scores * (q_shape[-1] + features.length) + 10 * num_scores
    return Cut(steps=steps, region=region, flops=flops)


def _operand(name: str, specs: Specs, intervals: tuple[Interval, ...]) -> Slice:
    """Return the slice of an operand; its leading dims may broadcast or be missing, its last two may not."""
    spec = specs[name]
    lead = broadcast(Region(intervals[:-2]), type(spec)(shape=spec.shape[:-2], dtype=spec.dtype))
    return Slice(name, Region((*lead.intervals, *intervals[-2:])))


def _has_groups(q: tuple[int, ...], k: tuple[int, ...], v: tuple[int, ...]) -> bool:
    """Whether key-value heads are shared by equal groups of query heads, and nothing else broadcasts."""
    if not len(q) == len(k) == len(v) >= 3:
        return False
    return q[:-3] == k[:-3] == v[:-3] and k[-3] == v[-3] and q[-3] % k[-3] == 0


def _whole_groups(
    region: Region, head_dim: int, num_heads: int, num_kv_heads: int
) -> tuple[Region, Interval]:
    """Return the region, in whole groups unless inside one group, and the key-value heads that it reads."""
    heads, group = region[head_dim], num_heads // num_kv_heads
    kv_heads = Interval(heads.start // group, -(-heads.stop // group))
    if kv_heads.length == 1:
        return region, kv_heads
    return region.replace(head_dim, Interval(kv_heads.start * group, kv_heads.stop * group)), kv_heads


def _causal_mask(queries: Interval, keys: Interval) -> tuple[Step, ...]:
    """Return steps that make rows ``queries`` of a lower-triangular mask over ``keys``."""
    ones = call(
        "aten.full.default",
        size=(queries.length, keys.length),
        fill_value=True,
        dtype=Symbol("dtype", "bool"),
    )
    return ones, call("aten.tril.default", self=Result(0), diagonal=queries.start)


RULES = {"aten.scaled_dot_product_attention.default": Rule(cut=_cut)}
