"""Fused operators that ONNX Runtime writes when it saves an optimised model (domain ``com.microsoft``)."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from edgeflow.graph.onnx_.node import MICROSOFT, Node, onnx_op
from edgeflow.graph.onnx_.ops.attention import causal, merge_heads, split_heads
from edgeflow.graph.onnx_.ops.conv import conv
from edgeflow.graph.onnx_.ops.linear import gemm, product

_fused = partial(onnx_op, domain=MICROSOFT)


@_fused("Gelu")
def gelu(node: Node, x: Tensor) -> Tensor:
    return F.gelu(x)


@_fused("BiasGelu")
def bias_gelu(node: Node, x: Tensor, bias: Tensor) -> Tensor:
    return F.gelu(x + bias)


@_fused("FastGelu")
def fast_gelu(node: Node, x: Tensor, bias: Tensor | None = None) -> Tensor:
    return F.gelu(x if bias is None else x + bias, approximate="tanh")


@_fused("QuickGelu")
def quick_gelu(node: Node, x: Tensor) -> Tensor:
    return x * torch.sigmoid(x * node.real("alpha", 1.702))


@_fused("SkipLayerNormalization")
def skip_layer_norm(
    node: Node,
    x: Tensor,
    skip: Tensor,
    gamma: Tensor,
    beta: Tensor | None = None,
    bias: Tensor | None = None,
) -> tuple[Tensor | None, ...]:
    total = x + skip if bias is None else x + skip + bias
    y = F.layer_norm(total, x.shape[-1:], gamma, beta, node.real("epsilon", 1e-12))
    return y, None, None, total


@_fused("SkipSimplifiedLayerNormalization")
def skip_rms_norm(
    node: Node, x: Tensor, skip: Tensor, gamma: Tensor, bias: Tensor | None = None
) -> tuple[Tensor | None, ...]:
    total = x + skip if bias is None else x + skip + bias
    y = F.rms_norm(total, x.shape[-1:], gamma, node.real("epsilon", 1e-12))
    return y, None, None, total


@_fused("FusedMatMul")
def fused_matmul(node: Node, a: Tensor, b: Tensor) -> Tensor:
    if node.integer("transBatchA", 0) or node.integer("transBatchB", 0):
        raise node.unsupported("transBatchA or transBatchB")
    a = a.mT if node.integer("transA", 0) else a
    b = b.mT if node.integer("transB", 0) else b
    y = product(a, b, is_weight=node.is_known(1))
    alpha = node.real("alpha", 1.0)
    return y if alpha == 1.0 else y * alpha


@_fused("FusedConv")
def fused_conv(node: Node, x: Tensor, w: Tensor, b: Tensor | None = None, z: Tensor | None = None) -> Tensor:
    y: Any = conv(node, x, w, b)
    return _activated(node, y if z is None else y + z, node.reals("activation_params", ()))


@_fused("FusedGemm")
def fused_gemm(node: Node, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    y: Any = gemm(node, a, b, c)
    return _activated(node, y, (node.real("activation_alpha", 0.01),))


def _activated(node: Node, x: Tensor, parameters: tuple[float, ...]) -> Tensor:
    match node.text("activation", ""):
        case "":
            return x
        case "Relu":
            return F.relu(x)
        case "Sigmoid":
            return torch.sigmoid(x)
        case "Tanh":
            return torch.tanh(x)
        case "LeakyRelu":
            return F.leaky_relu(x, parameters[0] if parameters else 0.01)
        case "Clip" if len(parameters) == 2:
            return torch.clamp(x, *parameters)
        case "HardSigmoid" if len(parameters) == 2:
            return torch.clamp(x * parameters[0] + parameters[1], 0.0, 1.0)
    raise node.unsupported(f"activation {node.text('activation')!r} of parameters {parameters}")


@_fused("MultiHeadAttention")
def multi_head_attention(
    node: Node,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor | None = None,
    key_padding_mask: Tensor | None = None,
    attention_bias: Tensor | None = None,
) -> Tensor:
    if query.ndim != 3 or key.ndim != 3 or value.ndim != 3:
        raise node.unsupported("packed queries, keys or values")
    if bias is not None:
        sizes = [query.shape[-1], key.shape[-1], value.shape[-1]]
        query, key, value = (
            part + share for part, share in zip((query, key, value), torch.split(bias, sizes), strict=True)
        )
    if key_padding_mask is not None and key_padding_mask.ndim != 2:
        raise node.unsupported(f"a key_padding_mask of {key_padding_mask.ndim} dims")
    heads = node.integer("num_heads")
    q, k, v = (split_heads(part, heads) for part in (query, key, value))
    mask = attention_bias
    if key_padding_mask is not None:
        hidden = (1 - key_padding_mask.to(q.dtype)) * node.real("mask_filter_value", -10000.0)
        mask = hidden[:, None, None, :] if mask is None else mask + hidden[:, None, None, :]
    scale = node.real("scale") if node.real("scale", 0.0) else None
    mask = causal(_renamed(node), q, k, mask)
    return merge_heads(F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale))


def _renamed(node: Node) -> Node:
    """Return the node with ``unidirectional`` under the standard's name, ``is_causal``."""
    return replace(node, attributes={"is_causal": node.integer("unidirectional", 0)})
