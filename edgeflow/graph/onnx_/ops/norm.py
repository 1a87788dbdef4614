"""Normalisation. Shapes: x (N, C, spatial...) for norms with channels, any shape for norms over last dims."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from edgeflow.graph.onnx_.node import Node, onnx_op


@onnx_op("BatchNormalization")
def batch_norm(
    node: Node, x: Tensor, scale: Tensor, b: Tensor, input_mean: Tensor, input_var: Tensor
) -> Tensor:
    # `is_test` (before opset 7) is ignored: files are always run for inference.
    if node.integer("training_mode", 0):
        raise node.unsupported("training_mode=1: it would change its own statistics")
    if not node.integer("spatial", 1):
        raise node.unsupported("spatial=0: statistics per element")
    return F.batch_norm(x, input_mean, input_var, scale, b, False, 0.0, node.real("epsilon", 1e-5))


@onnx_op("InstanceNormalization")
def instance_norm(node: Node, x: Tensor, scale: Tensor, b: Tensor) -> Tensor:
    return F.instance_norm(x, weight=scale, bias=b, eps=node.real("epsilon", 1e-5))


@onnx_op("GroupNormalization", since=18)
def group_norm(node: Node, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    groups = node.integer("num_groups")
    if node.opset < 21:  # one scale per group; from opset 21 on one per channel
        repeats = x.shape[1] // groups
        scale, bias = (value.repeat_interleave(repeats) for value in (scale, bias))
    return F.group_norm(x, groups, scale, bias, node.real("epsilon", 1e-5))


@onnx_op("LayerNormalization")
def layer_norm(node: Node, x: Tensor, scale: Tensor, b: Tensor | None = None) -> Tensor:
    # Standard since opset 17; ONNX Runtime also writes it to files of older opsets.
    shape = x.shape[node.integer("axis", -1) % x.ndim :]
    bias = None if b is None else b.expand(shape)
    return F.layer_norm(x, shape, scale.expand(shape), bias, node.real("epsilon", 1e-5))


@onnx_op("RMSNormalization")
@onnx_op("SimplifiedLayerNormalization")
def rms_norm(node: Node, x: Tensor, scale: Tensor) -> Tensor:
    shape = x.shape[node.integer("axis", -1) % x.ndim :]
    return F.rms_norm(x, shape, scale.expand(shape), node.real("epsilon", 1e-5))


@onnx_op("LRN")
def local_response_norm(node: Node, x: Tensor) -> Tensor:
    size, channels = node.integer("size"), x.shape[1]
    if size < 1:
        raise node.malformed(f"the attribute 'size' is {size}")
    before, after = (min(reach, channels) for reach in ((size - 1) // 2, size // 2))
    squares = F.pad(x * x, [0, 0] * (x.ndim - 2) + [before, after])
    # A sum of slices can be split by rows, unlike a pool over channels.
    total = squares[:, :channels]
    for index in range(1, before + 1 + after):
        total = total + squares[:, index : index + channels]
    alpha, beta, bias = node.real("alpha", 1e-4), node.real("beta", 0.75), node.real("bias", 1.0)
    return x / (bias + alpha / size * total).pow(beta)


@onnx_op("LpNormalization")
def lp_norm(node: Node, x: Tensor) -> Tensor:
    axis, p = node.integer("axis", -1), node.integer("p", 2)
    norm = x.abs().sum(dim=axis, keepdim=True) if p == 1 else (x * x).sum(dim=axis, keepdim=True).sqrt()
    return torch.where(norm == 0, torch.zeros_like(x), x / norm)


@onnx_op("MeanVarianceNormalization")
def mean_variance_norm(node: Node, x: Tensor) -> Tensor:
    axes = node.integers("axes", (0, 2, 3))
    centred = x - x.mean(dim=axes, keepdim=True)
    deviation = (centred * centred).mean(dim=axes, keepdim=True).sqrt()
    return centred / (deviation + 1e-9)
