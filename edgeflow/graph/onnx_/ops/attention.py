"""Attention and rotary embeddings as one operator each (opset 23).

Shapes: q (B, Hq, L, D), k and v (B, Hkv, S, D); in three dims, heads and features are merged: (B, L, Hq*D).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from edgeflow.graph.onnx_.node import Node, onnx_op


@onnx_op("Attention", since=23)
def attention(
    node: Node,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None = None,
    past_key: Tensor | None = None,
    past_value: Tensor | None = None,
    nonpad_kv_seqlen: Tensor | None = None,
) -> Tensor:
    if past_key is not None or past_value is not None or nonpad_kv_seqlen is not None:
        raise node.unsupported("keys and values of earlier requests")
    if node.real("softcap", 0.0):
        raise node.unsupported(f"softcap={node.real('softcap')}")
    if node.integer("left_window_size", -1) != -1 or node.integer("right_window_size", -1) != -1:
        raise node.unsupported("a sliding window")
    is_flat = q.ndim == 3
    if is_flat:
        q = split_heads(q, node.integer("q_num_heads"))
        k, v = (split_heads(part, node.integer("kv_num_heads")) for part in (k, v))
    if mask is not None and mask.shape[-1] < k.shape[-2]:
        raise node.unsupported(f"a mask for {mask.shape[-1]} of {k.shape[-2]} keys")
    y = F.scaled_dot_product_attention(
        q,
        k,
        v,
        attn_mask=causal(node, q, k, mask),
        scale=node.real("scale") if node.has("scale") else None,
        enable_gqa=q.shape[1] != k.shape[1],
    )
    return merge_heads(y) if is_flat else y


def causal(node: Node, q: Tensor, k: Tensor, mask: Tensor | None) -> Tensor | None:
    """Return the mask; with ``is_causal``, later positions are masked as well."""
    if not node.integer("is_causal", 0):
        return mask
    past = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool, device=q.device).tril()
    if mask is None:
        return past
    if mask.dtype == torch.bool:
        return torch.logical_and(mask, past)
    return torch.where(past, mask, float("-inf"))


def split_heads(x: Tensor, num_heads: int) -> Tensor:
    """Reshape (B, L, H*D) to (B, H, L, D)."""
    batch, length, features = x.shape
    return x.reshape(batch, length, num_heads, features // num_heads).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """Reshape (B, H, L, D) to (B, L, H*D)."""
    return x.transpose(1, 2).flatten(2)


@onnx_op("RotaryEmbedding", since=23)
def rotary_embedding(
    node: Node, x: Tensor, cos_cache: Tensor, sin_cache: Tensor, position_ids: Tensor | None = None
) -> Tensor:
    is_flat = x.ndim == 3
    if is_flat:
        x = split_heads(x, node.integer("num_heads"))
    size = node.integer("rotary_embedding_dim", 0) or x.shape[-1]
    if position_ids is not None:
        cos_cache, sin_cache = F.embedding(position_ids, cos_cache), F.embedding(position_ids, sin_cache)
    cos, sin = (part[..., : size // 2].unsqueeze(1) for part in (cos_cache, sin_cache))
    turned, rest = x[..., :size], x[..., size:]
    if node.integer("interleaved", 0):
        even, odd = turned[..., 0::2], turned[..., 1::2]
        turned = torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1).flatten(-2)
    else:
        first, second = turned[..., : size // 2], turned[..., size // 2 :]
        turned = torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)
    y = turned if size == x.shape[-1] else torch.cat([turned, rest], dim=-1)
    return merge_heads(y) if is_flat else y
