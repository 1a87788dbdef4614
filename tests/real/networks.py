"""Published architectures, written here so that the trained weights of packages fit: same names, same shapes.

References:
    Sandler et al., "MobileNetV2", CVPR 2018, table 2.
    Tan and Le, "EfficientNet", ICML 2019, table 1; its Lite variants drop squeeze-and-excitation, replace
    swish by ReLU6 and leave stem and head as they are.
    Devlin et al., "BERT", NAACL 2019; Wang et al., "MiniLM", NeurIPS 2020.

Shapes: images x (N, C, H, W); sequences x (N, L, D), heads H of D/H features.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def _conv_norm(inside: int, outside: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(inside, outside, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(outside)]


class _InvertedResidual(nn.Module):
    """Widen, filter each channel alone, narrow; around it a shortcut where shapes allow."""

    def __init__(self, inside: int, outside: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inside * expansion
        layers: list[nn.Module] = []
        if expansion > 1:
            layers.append(nn.Sequential(*_conv_norm(inside, wide, 1), nn.ReLU6()))
        layers.append(nn.Sequential(*_conv_norm(wide, wide, 3, stride, groups=wide), nn.ReLU6()))
        self.conv = nn.Sequential(*layers, *_conv_norm(wide, outside, 1))
        self.has_shortcut = stride == 1 and inside == outside

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return x + y if self.has_shortcut else y


class MobileNetV2(nn.Module):
    """Logits (N, 1000) of images (N, 3, 224, 224)."""

    #: Expansion, channels, blocks, stride of the first block.
    STAGES = (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    )

    def __init__(self) -> None:
        super().__init__()
        channels = 32
        layers: list[nn.Module] = [nn.Sequential(*_conv_norm(3, channels, 3, 2), nn.ReLU6())]
        for expansion, outside, count, stride in self.STAGES:
            for index in range(count):
                layers.append(_InvertedResidual(channels, outside, stride if index == 0 else 1, expansion))
                channels = outside
        layers.append(nn.Sequential(*_conv_norm(channels, 1280, 1), nn.ReLU6()))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, 1000))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.features(x).mean(dim=(2, 3)))
        return logits


class _SameConv2d(nn.Conv2d):
    """A convolution with TensorFlow's padding: ceil(H / stride) rows come out, the odd row is added below."""

    def forward(self, x: Tensor) -> Tensor:
        pads: list[int] = []
        for size, kernel, stride in zip(x.shape[2:], self.kernel_size, self.stride, strict=True):
            total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
            pads = [total // 2, total - total // 2, *pads]  # torch wants the last dim first
        return super().forward(F.pad(x, pads))


def _lite_norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


class _LiteBlock(nn.Module):
    def __init__(self, inside: int, outside: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inside * expansion
        self.expansion = expansion
        if expansion > 1:
            self._expand_conv = _SameConv2d(inside, wide, 1, bias=False)
            self._bn0 = _lite_norm(wide)
        self._depthwise_conv = _SameConv2d(wide, wide, kernel, stride, groups=wide, bias=False)
        self._bn1 = _lite_norm(wide)
        self._project_conv = _SameConv2d(wide, outside, 1, bias=False)
        self._bn2 = _lite_norm(outside)
        self.has_shortcut = stride == 1 and inside == outside

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(self._bn0(self._expand_conv(x))) if self.expansion > 1 else x
        y = F.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.has_shortcut else y


class EfficientNetLite0(nn.Module):
    """Logits (N, 1000) of images (N, 3, 224, 224)."""

    #: Expansion, channels, blocks, stride of the first block, kernel.
    STAGES = (
        (1, 16, 1, 1, 3),
        (6, 24, 2, 2, 3),
        (6, 40, 2, 2, 5),
        (6, 80, 3, 2, 3),
        (6, 112, 3, 1, 5),
        (6, 192, 4, 2, 5),
        (6, 320, 1, 1, 3),
    )

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = _SameConv2d(3, 32, 3, 2, bias=False)
        self._bn0 = _lite_norm(32)
        blocks: list[nn.Module] = []
        channels = 32
        for expansion, outside, count, stride, kernel in self.STAGES:
            for index in range(count):
                blocks.append(_LiteBlock(channels, outside, kernel, stride if index == 0 else 1, expansion))
                channels = outside
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = _SameConv2d(channels, 1280, 1, bias=False)
        self._bn1 = _lite_norm(1280)
        self._fc = nn.Linear(1280, 1000)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu6(self._bn0(self._conv_stem(x)))
        for block in self._blocks:
            x = block(x)
        x = F.relu6(self._bn1(self._conv_head(x)))
        logits: Tensor = self._fc(x.mean(dim=(2, 3)))
        return logits


class _Embeddings(nn.Module):
    def __init__(self, vocabulary: int, features: int, length: int) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(vocabulary, features)
        self.position_embeddings = nn.Embedding(length, features)
        self.token_type_embeddings = nn.Embedding(2, features)
        self.LayerNorm = nn.LayerNorm(features, eps=1e-12)

    def forward(self, ids: Tensor) -> Tensor:
        positions = self.position_embeddings.weight[: ids.shape[1]]
        x = self.word_embeddings(ids) + positions + self.token_type_embeddings.weight[0]
        y: Tensor = self.LayerNorm(x)
        return y


class _SelfAttention(nn.Module):
    def __init__(self, features: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(features, features) for _ in range(3))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        q, k, v = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)


class _Residual(nn.Module):
    """What a block adds to its input, and the norm behind that."""

    def __init__(self, inside: int, features: int) -> None:
        super().__init__()
        self.dense = nn.Linear(inside, features)
        self.LayerNorm = nn.LayerNorm(features, eps=1e-12)

    def forward(self, x: Tensor, shortcut: Tensor) -> Tensor:
        y: Tensor = self.LayerNorm(self.dense(x) + shortcut)
        return y


class _Layer(nn.Module):
    def __init__(self, features: int, heads: int, wide: int) -> None:
        super().__init__()
        # "self" is one of the names in the file, and no name for an attribute that is written out.
        self.attention = nn.ModuleDict(
            {"self": _SelfAttention(features, heads), "output": _Residual(features, features)}
        )
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(features, wide)})
        self.output = _Residual(wide, features)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = self.attention["output"](self.attention["self"](x, mask), x)
        y: Tensor = self.output(F.gelu(self.intermediate["dense"](x)), x)
        return y


class MiniLM(nn.Module):
    """Sentence embeddings (N, 384), of length one, of word pieces (N, L) and a mask (N, L) of 1 and 0."""

    def __init__(self, layers: int = 6, features: int = 384, heads: int = 12, wide: int = 1536) -> None:
        super().__init__()
        self.embeddings = _Embeddings(30522, features, 512)
        self.encoder = nn.ModuleDict(
            {"layer": nn.ModuleList(_Layer(features, heads, wide) for _ in range(layers))}
        )

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        x = self.embeddings(ids)
        is_word = mask.bool()[:, None, None, :]
        for layer in self.encoder["layer"].children():
            x = layer(x, is_word)
        weight = mask.unsqueeze(-1).to(x.dtype)
        mean = (x * weight).sum(dim=1) / weight.sum(dim=1)
        return mean / torch.linalg.vector_norm(mean, dim=-1, keepdim=True)
